"""Every error that the package raises on purpose, but those of its facts and models (``x86/``, ``spec/``).

::

    MemtypeError
      GuestError
        AgentError
          ProcessDied
        BootError
          ModuleNotLoaded
        GuestExited
        GuestFlooded
        GuestHung
        GuestPanicked
        ModuleRefusedToLoad
        ModuleStays
        QualificationError
        SshError
          HeadersMissing
          ModuleRefused
          SshDiskFull
          SshHostKeyChanged
          SshKeyRefused
          SshLost
          SshRefused
      HostError
        NotOurs
        WrongClock
      KernelError
        Unreachable
      Unavailable
        ModuleMissing
        NotAllowed
        OptionMissing
      UsageError
        LayoutError
        ModuleBroken
    AnswerLost
    AnswerRefused
    DamagedLine
      ForeignLine
    DeviceStateError
    Misfit
    ProcessFault
    SyscallRefused
    TemplateError
      NoTemplate

The message of a :class:`MemtypeError` is one line that says what is wrong, where, and what to do. Longer
material (console lines, log paths, a command to run again) travels in ``MemtypeError.details``, which the
plugin and the command line print below it; ``exit_status`` is that of ``memtype`` when it reaches the top.
The others become one of these on their way up, or are what a user's test catches.
"""

from __future__ import annotations

from collections.abc import Sequence

INTERRUPTED = 130
"""Exit status of a command after Ctrl-C: 128 and the number of SIGINT, as shells have it."""


def reason(error: OSError) -> str:
    """An error of the system in one line: the file, where the error names one, and the reason."""
    # Libraries raise some OSErrors without a number.
    why = error.strerror or " ".join(str(error).split()) or type(error).__name__
    return f"{error.filename}: {why}" if error.filename else why


def harmless(text: str) -> str:
    """Text that is safe for a terminal: unprintable characters are escaped as Python escapes them."""
    if text.replace("\n", "").isprintable():
        return text
    return "".join(each if each == "\n" or each.isprintable() else _escaped(each) for each in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


class MemtypeError(Exception):
    """Base class of the package's errors.

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
    """Raised when an argument, marker, option or file that the user wrote can't be used."""

    exit_status = 2


class LayoutError(UsageError):
    """Raised for a layout that the MTRRs of the guest's CPU can't express, or that can't be read."""


class ModuleBroken(UsageError):
    """Raised when a module of the user's doesn't build; the compiler's words are in the details."""


class HostError(MemtypeError):
    """Raised when the host lacks something: a program, a permission, space."""


class WrongClock(HostError):
    """Raised when a guest's clock is wrong for good, as the host had no time for QEMU while it was set."""


class KernelError(MemtypeError):
    """Raised when a kernel can't be found, fetched or built."""


class Unreachable(KernelError):
    """Raised when a file isn't in the cache, and Debian's mirror can't be reached or may not be asked."""


class GuestError(MemtypeError):
    """Raised when a guest can't be started, or ends while it is needed."""


class BootError(GuestError):
    """Raised when a guest boots but doesn't reach its agent."""


class ModuleNotLoaded(BootError):
    """Raised when the guest's kernel doesn't take the module, or the module refuses its parameters.

    :param message: One line: what, where, what to do.
    :param errno: The errno of ``finit_module``, positive.
    :param kernel_says: The kernel's last line about it, empty where it said nothing.
    """

    def __init__(self, message: str, *, errno: int, kernel_says: str = "") -> None:
        super().__init__(message)
        self.errno = errno
        self.kernel_says = kernel_says


class GuestExited(GuestError):
    """Raised when QEMU, or the guest in it, has ended by itself."""


class GuestPanicked(GuestError):
    """Raised when the guest's kernel has panicked."""


class ModuleRefusedToLoad(GuestError):
    """Raised when the guest's kernel doesn't take a module of the user's."""


class ModuleStays(GuestError):
    """Raised when a module of the user's can't be unloaded, or leaves mappings behind."""


class GuestHung(GuestError):
    """Raised when a guest is alive but doesn't answer in time."""


class GuestFlooded(GuestError):
    """Raised when a guest prints more than any healthy guest does."""


class Unavailable(MemtypeError):
    """Raised when a guest that isn't broken can't do what was asked for.

    A test that meets this error is skipped with the message as the reason. It is no :class:`GuestError`:
    a test that expects a GuestError would pass with it.
    """


class NotAllowed(Unavailable):
    """Raised when the module or agent of a target refuses a request that the owner has not allowed.

    :param what: The request.
    """

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}: the machine's owner has not allowed that; it was refused there")


class ModuleMissing(Unavailable):
    """Raised when a request needs the guest's module, and there is none for its kernel.

    :param what: The request.
    """

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} needs the guest's module, which can't be built for this kernel: its headers are gone"
        )


class OptionMissing(Unavailable):
    """Raised when a test needs an option of the kernel's configuration that the kernel was built without.

    :param kernel: The spec of the kernel.
    :param options: The names of the options, without ``CONFIG_``.
    """

    def __init__(self, kernel: str, options: Sequence[str]) -> None:
        listed = ", ".join(f"CONFIG_{name}=y" for name in options)
        super().__init__(f"the test needs {listed}; kernel {kernel!r} was built without")
        self.options = tuple(options)


class AgentError(GuestError):
    """Raised when the agent answers that it could not carry out a request."""


class ProcessDied(AgentError):
    """Raised when a process of the test dies in the middle of an operation; the guest is well."""


class SshError(GuestError):
    """Raised when something on a machine that is reached over SSH goes wrong."""


class SshRefused(SshError):
    """Raised when nothing listens at the machine's port, or no SSH server."""


class SshHostKeyChanged(SshError):
    """Raised when the machine's host key is not the expected one."""


class SshKeyRefused(SshError):
    """Raised when the machine doesn't let the run's key in."""


class SshLost(SshError):
    """Raised when the connection ends while it is needed."""


class SshDiskFull(SshError):
    """Raised when the machine has no room on its disk for the files sent there."""


class ModuleRefused(SshError):
    """Raised when the machine's kernel refuses the module: lockdown, signature policy, or another version."""


class HeadersMissing(SshError):
    """Raised when the module can't be built for the machine's kernel, whose headers are nowhere to be had."""


class NotOurs(HostError):
    """Another user could have put a file there, or could change it."""


class TemplateError(Exception):
    """A template is damaged, or isn't there. The message says how."""


class NoTemplate(TemplateError):
    """A template isn't there at all."""


class DeviceStateError(ValueError):
    """A device state is damaged, or comes from another QEMU than it should. The message says how."""


class QualificationError(GuestError):
    """Raised when the program doesn't run to its end, so that there is nothing to compare."""


class AnswerLost(Exception):
    """Raised for an answer of a cluster's worker that is gone, as its worker is."""


class AnswerRefused(Exception):
    """Raised for an answer of a cluster's worker that isn't taken; the message says why."""


class Misfit(Exception):
    """The code of a fault isn't in a kernel's source file, or not just once. The message says how."""


class DamagedLine(ValueError):
    """A line whose checksum or shape is wrong: serial lines lose characters."""


class ForeignLine(DamagedLine):
    """A line that the agent didn't send: UEFI firmware, and Linux' EFI stub, write to every port."""


class ProcessFault(Exception):
    """Raised when a process that reads or writes memory gets a signal instead.

    :ivar signal: Number of the signal: 11 is SIGSEGV, 7 is SIGBUS.
    """

    def __init__(self, process: str, signal: int) -> None:
        super().__init__(f"process {process} got signal {signal} from the access")
        self.signal = signal


class SyscallRefused(OSError):
    """Raised when the kernel refuses a system call that returns something. It has an answer's attributes.

    :ivar errno: The errno, positive.
    :ivar log: The kernel's messages while it worked, sanitised.
    """

    accepted = False
    rejected = True

    def __init__(self, number: int, what: str, log: tuple[str, ...] = ()) -> None:
        super().__init__(number, what)
        self.log = log
