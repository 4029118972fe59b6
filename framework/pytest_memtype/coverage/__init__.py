"""Coverage of a kernel's code: the counters of GCOV that guests have left, and what they say of lines."""
