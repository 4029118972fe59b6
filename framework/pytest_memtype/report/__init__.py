"""The records of a run, and everything drawn from them."""
