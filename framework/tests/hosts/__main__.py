"""``python framework/tests/hosts``, which is ``tox -e hosts``."""

from __future__ import annotations

from hosts_command import main

if __name__ == "__main__":
    main()
