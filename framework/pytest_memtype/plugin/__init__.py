"""The pytest plugin: the modules that pytest registers. Each module has its own hooks."""

pytest_plugins = [
    "pytest_memtype.plugin.options",
    "pytest_memtype.plugin.fixtures",
    "pytest_memtype.plugin.hooks",
    "pytest_memtype.plugin.bugs",
]
