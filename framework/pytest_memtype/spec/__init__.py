"""The rules as executable reference models, naive on purpose: they judge the fast implementations."""
