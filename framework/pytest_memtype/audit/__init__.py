"""The judge outside the guest: what its page tables really hold, and where two of them disagree."""
