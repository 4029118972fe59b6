"""The bisection of kernel versions: the search, and one attempt of it."""
