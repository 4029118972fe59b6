"""The guest's kernel loads itself anew, by kexec: nothing of the machine is reset, and the MTRRs stay."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Final

from pytest_memtype.errors import BootError, GuestError, GuestHung, Unavailable
from pytest_memtype.guest.agent import Agent, Reply
from pytest_memtype.guest.journal import Journal
from pytest_memtype.guest.strict import error_number
from pytest_memtype.guest.transfer import put_file
from pytest_memtype.machine.machine import Machine
from pytest_memtype.machine.state import GuestState

_KERNEL: Final = "/tmp/memtype-kexec-kernel"
_INITRD: Final = "/tmp/memtype-kexec-initrd"

# kernel/kexec_file.c, 5.10 to 6.18: kexec_file_load(), kimage_validate_signature().
_UNSIGNED: Final = "it wants a signature that the image hasn't, as with CONFIG_KEXEC_SIG_FORCE"
_REASONS: Final = {
    errno.ENOSYS: "it was built without CONFIG_KEXEC_FILE",
    errno.EPERM: "/proc/sys/kernel/kexec_load_disabled forbids it, or the kernel is locked down",
    **dict.fromkeys((errno.ENODATA, errno.ENOKEY, errno.EKEYREJECTED), _UNSIGNED),
}


def load_again(agent: Agent, journal: Journal, machine: Machine, *, before: Callable[[], None]) -> Agent:
    """Have a guest's kernel load itself anew, and return the agent of the new one, which has yet to greet.

    :param agent: The guest's agent, which is gone then.
    :param journal: Its journal, which then forgets what was mapped.
    :param machine: Its QEMU.
    :param before: Called before the guest's kernel is told, which may still refuse.
    :raises Unavailable: the guest runs a distribution, whose agent nobody would start again; it has memory
        that was plugged in; or its kernel doesn't do it.
    :raises GuestError: its kernel can't do it, as when it has too little memory.
    """
    config = machine.config
    if config.kernel is None or config.initrd is None or config.network:
        raise Unavailable("kexec() wants a guest of the agent alone: a distribution's isn't started again")
    if machine.plugged:
        # The new kernel may lie in it, or takes it with a policy of its own: it could never be unplugged.
        raise Unavailable("kexec(): unplug the memory first, which the new kernel may not give back")
    put_file(agent, config.kernel.read_bytes(), _KERNEL)
    put_file(agent, config.initrd.read_bytes(), _INITRD)
    before()
    reply = agent.call("kexec", kernel=_KERNEL, initrd=_INITRD)
    error = reply.decode(lambda content: error_number(content["errno"]))
    journal.done("kexec", actor="test", arguments={}, result=error, log=reply.log)
    if error in _REASONS:
        raise Unavailable(f"this kernel doesn't load another by kexec: {_REASONS[error]}")
    if error:
        raise GuestError(f"this kernel can't load itself by kexec: {os.strerror(error)}")
    journal.forget()
    return agent.successor()


def greeted_again(agent: Agent, *, timeout: float) -> Reply:
    """Wait for a kernel that is loaded anew, and return its agent's greeting.

    :param agent: Its agent.
    :param timeout: Seconds that it has.
    :raises BootError: it doesn't come as far as that; the details name the console's log.
    :raises GuestPanicked: it panicked.
    :raises GuestExited: QEMU ended.
    """
    agent.machine.activity = GuestState.BOOTING
    try:
        greeting = agent.greet(timeout=timeout)
    except GuestHung as error:
        raise BootError(
            f"the kernel that kexec has started doesn't reach its agent: {error.message}",
            details=error.details,
        ) from None
    # Takes in the messages of the boot, which no operation has caused.
    agent.call("log")
    return greeting
