"""Whether this run may ask Debian's mirror, and whether the mirror answers: decided once for a run.

``--offline`` and the variable ``MEMTYPE_OFFLINE`` forbid asking. A mirror that was found to be unreachable
isn't asked again by the same run: each question would cost as long as the first. Processes that a run starts
get this from it (:func:`state`, :func:`restore`, :func:`environment`); others find a note in the cache.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from pytest_memtype.errors import Unreachable

VARIABLE: Final = "MEMTYPE_OFFLINE"
"""The environment variable: ``1`` is ``--offline``, and empty or ``0`` isn't."""

CANT_BE_REACHED: Final = "the Debian mirror can't be reached"

ADVICE: Final = (
    "repeat this with the network, or take it from a machine that has it (memtype cache export, import)"
)
"""The advice about something that isn't in the cache, as the end of a sentence."""

_UNREACHABLE = "unreachable"
_ASKED = "1"
NOTE: Final = "mirror-unreachable"
"""The name of the file in the cache that tells other processes."""

# The workers of one run start within this; a user who has connected the network since waits no longer.
_NOTE_SECONDS = 60.0


class _Known:
    """The knowledge of this process about the mirror.

    :ivar state: Empty, :data:`_ASKED` or :data:`_UNREACHABLE`.
    :ivar told: Whether the user was told how old the indexes are.
    """

    def __init__(self) -> None:
        self.state = ""
        self.told = False


_known = _Known()


def stay_offline() -> None:
    """Have this process ask no mirror from now on."""
    _known.state = _ASKED


def lost(cache: Path) -> None:
    """Have this process take the mirror for unreachable from now on, and leave a note for other processes."""
    if not _known.state:
        _known.state = _UNREACHABLE
    # A cache that can't be written to costs another process the same wait.
    with suppress(OSError):
        _note(cache).touch()


def answered(cache: Path) -> None:
    """Remove the note that the mirror is unreachable: it has sent something."""
    with suppress(OSError):
        _note(cache).unlink(missing_ok=True)


def lately_lost(cache: Path) -> bool:
    """Whether any process has found the mirror unreachable within the last minute."""
    try:
        return 0 <= time.time() - _note(cache).stat().st_mtime < _NOTE_SECONDS
    except OSError:
        return False


def unasked() -> str | None:
    """The reason why this process asks no mirror, as the end of a sentence; None when it may ask."""
    match _known.state or _of_environment():
        case "":
            return None
        case state if state == _UNREACHABLE:
            return CANT_BE_REACHED
        case _:
            return "the Debian mirror may not be asked (--offline)"


def is_offline() -> bool:
    """Whether the user wants no mirror to be asked."""
    return (_known.state or _of_environment()) not in ("", _UNREACHABLE)


def require(what: str) -> None:
    """Check that this run may ask the mirror for a thing.

    :param what: The thing to fetch, as the beginning of a sentence.
    :raises Unreachable: the mirror isn't asked; the line says what to do.
    """
    reason = unasked()
    if reason is not None:
        raise Unreachable(f"{what}: not in the cache, and {reason}; {ADVICE}")


def say_once() -> bool:
    """Whether the user still has to be told how old the indexes are. True for the first call only."""
    first, _known.told = not _known.told, True
    return first


def state() -> dict[str, str | bool]:
    """The knowledge of this process about the mirror, for :func:`restore` in another."""
    return {"state": _known.state or _of_environment(), "told": _known.told}


def restore(state: dict[str, str | bool]) -> None:
    """Take over the knowledge of another process of this run."""
    _known.state, _known.told = str(state["state"]), bool(state["told"])


def environment() -> dict[str, str]:
    """The environment variables that give a started process this one's knowledge about the mirror."""
    known = _known.state or _of_environment()
    return {VARIABLE: known} if known else {}


def forget() -> None:
    """Forget all about the mirror, as in a process that has just started."""
    _known.state, _known.told = "", False


def _of_environment() -> str:
    value = os.environ.get(VARIABLE, "")
    return "" if value == "0" else value


def _note(cache: Path) -> Path:
    return cache / NOTE
