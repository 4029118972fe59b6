"""The suite on fresh roots of other Debian releases."""
