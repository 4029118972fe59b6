"""A run of the suite: its variants, sessions, guests booted ahead, and the files that it leaves."""
