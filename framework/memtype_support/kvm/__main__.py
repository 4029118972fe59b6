"""``python -m memtype_support.kvm``, which is ``tox -e kvm``."""

from __future__ import annotations

from memtype_support.kvm.kvm_command import main

if __name__ == "__main__":
    main()
