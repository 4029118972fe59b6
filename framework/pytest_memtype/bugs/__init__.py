"""Reported bugs: their facts, the catalogue, their pages, and the matrix of bugs and kernels."""
