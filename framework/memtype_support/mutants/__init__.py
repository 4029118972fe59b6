"""The tests of the guest's C code, tested by faults that are put into it."""
