"""For all tests of the framework itself."""

from __future__ import annotations

import os

from pytest_memtype.resources import cache_directory

# pytester gives the pytest it runs another home, where kernels would be built anew.
os.environ.setdefault("MEMTYPE_CACHE", str(cache_directory()))
