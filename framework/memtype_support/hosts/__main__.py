"""``python -m memtype_support.hosts``, which is ``tox -e hosts``."""

from __future__ import annotations

from memtype_support.hosts.hosts_command import main

if __name__ == "__main__":
    main()
