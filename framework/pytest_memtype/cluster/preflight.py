"""The question to each worker before its first task: whether it can run guests here, and with what."""

from __future__ import annotations

import os
import platform
import shutil
from typing import Any, Final

from pytest_memtype.errors import HostError
from pytest_memtype.host.memory import available_memory
from pytest_memtype.host.own_version import own_version
from pytest_memtype.host.progress import silent
from pytest_memtype.host.resources import cache_directory
from pytest_memtype.machine.qemu_versions import age_warning
from pytest_memtype.machine.vcpu_registers import usable_qemu

ROOT: Final = "MEMTYPE_WORKER_ROOT"
"""The environment variable by which a worker is told to run guests as root: ``1``."""

_LEAST_ROOM: Final = 1 << 30
_LEAST_MEMORY: Final = 768 << 20


def preflight(accelerator: str, *, root_is_fine: bool) -> dict[str, Any]:
    """Facts of this worker: its QEMU, versions, room in bytes, and a remark on an untested QEMU.

    :param accelerator: The accelerator that the run wants, or ``auto``.
    :param root_is_fine: The client has told this machine, its own, to run guests as root.
    :raises HostError: the worker can't run guests; one line says why.
    """
    if os.geteuid() == 0 and not root_is_fine and os.environ.get(ROOT) != "1":
        raise HostError(f"it runs as root: run it as another user, or set {ROOT}=1 in its environment")
    qemu = usable_qemu(progress=silent)
    if accelerator == "kvm" and not os.access("/dev/kvm", os.R_OK | os.W_OK):
        raise HostError("/dev/kvm can't be opened here, and the run wants --accel kvm")
    cache = cache_directory()
    room = shutil.disk_usage(cache).free
    if room < _LEAST_ROOM:
        raise HostError(f"{cache} has room for {room >> 20} MiB, and templates take {_LEAST_ROOM >> 20}")
    memory = available_memory()
    if memory < _LEAST_MEMORY:
        raise HostError(f"{memory >> 20} MiB of memory are free, and guests take {_LEAST_MEMORY >> 20}")
    return {
        "qemu": qemu.release,
        "kvm": os.access("/dev/kvm", os.R_OK | os.W_OK),
        "python": platform.python_version(),
        "package": own_version(),
        "room": room,
        "remark": age_warning(qemu),
    }
