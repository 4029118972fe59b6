"""Every error the package raises on purpose, in one tree.

The message of each is one line that says what is wrong, where, and what to
do. Longer material (console lines, log paths, a command to run again) travels
in :attr:`MemtypeError.details`, which the plugin and the command line print
below it.

``exit_status`` is what ``memtype`` ends with when the error reaches the top.
"""

from __future__ import annotations

INTERRUPTED = 130
"""What a command ends with after Ctrl-C: 128 and the number of SIGINT, as shells have it."""


def reason(error: OSError) -> str:
    """What the system refuses, on one line: the file, where it says which, and why."""
    # Libraries raise some without a number.
    why = error.strerror or " ".join(str(error).split()) or type(error).__name__
    return f"{error.filename}: {why}" if error.filename else why


def harmless(text: str) -> str:
    """Text for a terminal: what is not to be printed there is written as Python writes it."""
    if text.replace("\n", "").isprintable():
        return text
    return "".join(each if each == "\n" or each.isprintable() else _escaped(each) for each in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


class MemtypeError(Exception):
    """Base of the tree.

    :param message: One line: what, where, what to do.
    :param details: Lines to print below the message.
    """

    exit_status = 3

    def __init__(self, message: str, *, details: tuple[str, ...] = ()) -> None:
        message = harmless(message)
        super().__init__(message)
        self.message = message
        self.details = details

    def __str__(self) -> str:
        return "\n".join((self.message, *self.details))


class UsageError(MemtypeError):
    """An argument, marker, option or file the user wrote can't be used."""

    exit_status = 2


class LayoutError(UsageError):
    """A layout that the MTRRs of the guest's CPU can't express."""


class HostError(MemtypeError):
    """The host lacks something: a program, a permission, space."""


class KernelError(MemtypeError):
    """A kernel can't be found, fetched or built."""


class Unreachable(KernelError):
    """Something isn't in the cache, and Debian's mirror can't be reached or may not be asked."""


class GuestError(MemtypeError):
    """A guest couldn't be started, or ended while it was needed."""


class BootError(GuestError):
    """The guest didn't reach its agent."""


class ModuleNotLoaded(BootError):
    """The kernel there didn't take the module, or that itself refused what it was given.

    :param errno: Of ``finit_module``.
    :param kernel_says: The kernel's last line about it, empty where it said nothing.
    """

    def __init__(self, message: str, *, errno: int, kernel_says: str = "") -> None:
        super().__init__(message)
        self.errno = errno
        self.kernel_says = kernel_says


class GuestExited(GuestError):
    """QEMU, or the guest in it, ended by itself."""


class GuestPanicked(GuestError):
    """The guest's kernel panicked."""


class GuestHung(GuestError):
    """The guest is alive but didn't answer in time."""


class GuestFlooded(GuestError):
    """The guest printed more than any healthy guest does."""


class Unavailable(MemtypeError):
    """This guest can't do what was asked for, and isn't broken.

    A test that meets this is skipped with the message as the reason. It is no :class:`GuestError`:
    a test that expects one would take the lack for it, and pass.
    """


class NotAllowed(Unavailable):
    """The machine is somebody's, who has not allowed what was asked for; its module or agent refused.

    :param what: What was asked for.
    """

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}: the machine's owner has not allowed that; it was refused there")


class ModuleMissing(Unavailable):
    """What was asked for needs the guest's module, and there is none for its kernel.

    :param what: What was asked for.
    """

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} needs the guest's module, which can't be built for this kernel: its headers are gone"
        )


class AgentError(GuestError):
    """The agent answered, but said it could not carry out the command."""


class ProcessDied(AgentError):
    """A process of the test died in the middle of what it was told to do; the guest is well."""


class SshError(GuestError):
    """Something on a machine that is reached over SSH went wrong."""


class SshRefused(SshError):
    """Nobody listens there, or not with SSH."""


class SshHostKeyChanged(SshError):
    """The machine's host key is not the one it should have."""


class SshKeyRefused(SshError):
    """The machine doesn't let our key in."""


class SshLost(SshError):
    """The connection ended while it was needed."""


class SshDiskFull(SshError):
    """The machine has no room for what is sent there."""


class ModuleRefused(SshError):
    """The machine's kernel doesn't take the module: lockdown, its signature policy, or another version."""


class HeadersMissing(SshError):
    """The module can't be built for the machine's kernel, because nobody has its headers."""
