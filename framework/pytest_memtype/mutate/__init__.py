"""The course of ``memtype mutate``: trials of faults planted in a kernel, one by one."""
