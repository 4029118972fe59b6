"""Reported bugs: their facts, the catalogue, their pages, the matrix of bugs and kernels."""
