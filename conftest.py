"""For the project's own tests: the plugin is loaded through its entry point."""

from __future__ import annotations

pytest_plugins = ["pytester"]
