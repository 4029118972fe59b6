"""A package: pytest ends its machine (conftest.py) behind the last test here, and not with the session."""
