"""Support of the project's own tests: hosts, guests and inputs made for them. It is not published."""
