"""``python framework/tests/kvm``, which is ``tox -e kvm``."""

from __future__ import annotations

from kvm_command import main

if __name__ == "__main__":
    main()
