"""From a report's facts to a sequence of operations that makes a kernel say the same, and running it."""
