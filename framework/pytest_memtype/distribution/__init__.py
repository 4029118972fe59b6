"""Guests that run a whole distribution: its image, a kernel's modules, and the boot from there."""
