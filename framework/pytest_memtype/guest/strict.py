"""Values of the guest's answers, taken only as what they must be.

JSON from a guest is a stranger's. What is not checked where it comes in gets into records and messages, where
text may be a terminal's escape sequence, and a list or a fraction raises where nobody expects an error.
:meth:`Reply.decode` makes one of all errors here.
"""

from __future__ import annotations

from typing import Final

from pytest_memtype.guest.region import Region

_UINT64: Final = 1 << 64
# MAX_ERRNO of include/linux/err.h, 5.10 to 7.3.
_MAX_ERRNO: Final = 4095


def integer(value: object) -> int:
    """A number that a register can hold: all that the agent tells are such, without a sign.

    :param value: Decoded JSON.
    :raises TypeError: it isn't an int: text, a truth value, a fraction.
    :raises ValueError: it has a sign, or more than 64 bits.
    """
    if type(value) is not int:
        raise TypeError(f"a number is expected, not {_kind(value)}")
    if not 0 <= value < _UINT64:
        raise ValueError(f"{hex(value)[:20]} isn't a number of 64 bits")
    return value


def error_number(value: object) -> int:
    """An errno: positive, or 0 for none.

    :param value: Decoded JSON.
    :raises TypeError: it isn't an int.
    :raises ValueError: no kernel has such an errno.
    """
    found = integer(value)
    if found > _MAX_ERRNO:
        raise ValueError(f"{found} is no errno")
    return found


def flag(value: object) -> bool:
    """A truth value, as JSON spells it: true or false.

    :param value: Decoded JSON.
    :raises TypeError: it is anything else, such as 1.
    """
    if type(value) is not bool:
        raise TypeError(f"true or false is expected, not {_kind(value)}")
    return value


def mapping_kind(value: object) -> str:
    """The kind of a mapping, ``"kernel"`` or ``"user"``.

    :param value: Decoded JSON.
    :raises ValueError: it is another, or no text.
    """
    if not isinstance(value, str) or value not in ("kernel", "user"):
        raise ValueError(f"a mapping's kind is kernel or user, not {repr(value)[:40]}")
    return value


def region_of(start: object, pages: object) -> Region:
    """A region by its start and its size.

    :param start: Decoded JSON: the address of its first byte.
    :param pages: Decoded JSON: how many pages it has.
    :raises TypeError: one of them isn't an int.
    :raises ValueError: there is no such region.
    """
    return Region(integer(start), integer(pages))


def _kind(value: object) -> str:
    return type(value).__name__
