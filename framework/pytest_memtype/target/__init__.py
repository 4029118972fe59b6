"""A machine that somebody owns, as one to test on: reached over SSH, and left as it was."""
