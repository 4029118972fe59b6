"""The pytest plugin. What pytest registers of it is listed here, and each file's hooks stand in that file."""

pytest_plugins = [
    "pytest_memtype.plugin.options",
    "pytest_memtype.plugin.fixtures",
    "pytest_memtype.plugin.hooks",
    "pytest_memtype.plugin.bugs",
]
