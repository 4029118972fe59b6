"""Support of the project's own tests: hosts, guests and inputs that are made for them. It is not published."""
