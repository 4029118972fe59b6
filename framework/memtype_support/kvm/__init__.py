"""The guest in which KVM is tested, and the run in it."""
