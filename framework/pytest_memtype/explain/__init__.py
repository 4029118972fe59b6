"""What a report means: from the facts of a text to words, a layout and a known bug."""
