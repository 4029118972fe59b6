"""Looks at real mirrors, which ``./hil test`` doesn't take: ``tox -e mirrors`` does.

What a mirror has changes from one hour to the next, and is no fault of the project's: a test of it would turn
red for everybody on the day that Debian builds a kernel. What is made of an index is tested on those in
``framework/tests/kernels/indexes``.
"""

from __future__ import annotations

import os

# pytest leaves these out, whatever is named on its command line.
collect_ignore_glob = [] if os.environ.get("MEMTYPE_MIRRORS") == "1" else ["test_*.py"]
