"""Verdict records, and everything drawn from them."""
