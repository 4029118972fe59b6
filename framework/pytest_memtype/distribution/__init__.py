"""Guests that run a whole distribution: its image, a kernel's modules, and the way up from there."""
