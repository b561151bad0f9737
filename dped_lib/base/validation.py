"""Check values that a user chooses. An error names the value, the allowed values and the nearest one."""

import dataclasses
import difflib
import typing
from collections.abc import Iterable, Mapping

from dped_lib.base.errors import DpedError


def one_of(kind: str, value, allowed: Iterable[str]) -> str:
    """Return ``value`` if it is in ``allowed``. Otherwise raise a DpedError that lists them and the nearest one."""
    allowed = tuple(allowed)
    if value in allowed:
        return value
    lower = {a.lower(): a for a in allowed}
    near = difflib.get_close_matches(str(value).lower(), lower, n=1)
    hint = f" Did you mean {lower[near[0]]!r}?" if near else ""
    raise DpedError(f"unknown {kind} {value!r}; allowed: {', '.join(allowed)}.{hint}")


def check_type(key: str, value, expected: type):
    """Return ``value`` if it has the ``expected`` type, or raise a DpedError. An int is accepted as a float."""
    # In Python a bool is an int. Here a bool is neither an int nor a float.
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise DpedError(f"parameter {key!r}: the number is too large. The largest float is 1.8e308.") from None
    if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
        name = getattr(expected, "__name__", expected)  # "float | None" has no name
        raise DpedError(f"parameter {key!r} must be {name}, not {type(value).__name__} ({value!r}).")
    return value


def build_dataclass(cls, values: Mapping):
    """Return the frozen dataclass ``cls`` with the fields ``values``.

    Raises:
        DpedError: a key is unknown or missing, or a value has the wrong type.
    """
    hints = typing.get_type_hints(cls)
    for key in values:
        one_of("parameter", key, hints)
    for field in dataclasses.fields(cls):
        if field.default is dataclasses.MISSING and field.name not in values:
            raise DpedError(f"parameter {field.name!r} is missing.")
    return cls(**{k: check_type(k, v, hints[k]) for k, v in values.items()})
