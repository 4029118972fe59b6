"""The audit from outside a guest: what its page tables really hold, and where two of them disagree."""
