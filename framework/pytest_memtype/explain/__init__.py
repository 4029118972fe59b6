"""Meaning of a report: from the facts of a text to words, a layout and a known bug."""
