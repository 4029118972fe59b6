"""Addresses and registers are shown in hexadecimal, as the manuals and the kernel write them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_T = TypeVar("_T", bound="DataclassInstance")


def shown_in_hexadecimal(*names: str) -> Callable[[type[_T]], type[_T]]:
    """Have ``repr()`` of a dataclass show some of its fields in hexadecimal.

    Tuples of numbers, too::

        @shown_in_hexadecimal("base", "mask")
        @dataclass(frozen=True)
        class VariableMtrr: ...

    :param *names: The fields.
    :raises TypeError: The class has no such field.
    """

    def decorate(cls: type[_T]) -> type[_T]:
        fields = [field.name for field in dataclasses.fields(cls) if field.repr]
        if unknown := set(names) - set(fields):
            raise TypeError(f"{cls.__name__} has no field {', '.join(sorted(unknown))}")

        def show(self: _T) -> str:
            values = ((name, getattr(self, name)) for name in fields)
            shown = (
                f"{name}={_hexadecimal(value) if name in names else repr(value)}" for name, value in values
            )
            return f"{cls.__name__}({', '.join(shown)})"

        type.__setattr__(cls, "__repr__", show)
        return cls

    return decorate


def _hexadecimal(value: Any) -> str:
    if isinstance(value, tuple):
        inside = ", ".join(map(_hexadecimal, value))
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    # A memory type is a number, too, and has its name.
    return hex(value) if type(value) is int else repr(value)
