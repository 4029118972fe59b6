"""A run of the suite: variants, sessions, guests booted ahead, artifacts, what a run leaves."""
