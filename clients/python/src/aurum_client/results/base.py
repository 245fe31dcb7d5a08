"""Reads JSON into dataclasses by their annotations.

Fields that this version does not know are ignored, so that a newer service can be asked; a missing
or wrong field raises ValueError.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from datetime import datetime
from functools import cache, partial
from typing import Any, Callable, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")
Reader = Callable[[Any], Any]
EXTRA = "extra"
"""Name of the field that takes what has no field of its own."""


@dataclass(frozen=True)
class _Plan:
    """How a dataclass is read: a reader for each field, and the fields without a default."""

    readers: dict[str, Reader]
    needed: tuple[str, ...]
    has_extra: bool


def read(kind: Callable[..., T], document: object) -> T:
    """Read a JSON object as a dataclass; raises ValueError that names what does not fit."""
    if not isinstance(document, Mapping):
        raise ValueError(f"{_name(kind)} is not an object")  # noqa: TRY004 - a wrong answer
    plan = _plan_of(kind)
    values: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for name, value in document.items():
        reader = plan.readers.get(name)
        if reader is None:
            extra[name] = value
            continue
        try:
            values[name] = reader(value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{_name(kind)}.{name}: {error}") from error
    for name in plan.needed:
        if name not in values:
            raise ValueError(f"{_name(kind)}.{name} is missing")
    if plan.has_extra:
        values[EXTRA] = extra
    return kind(**values)


@cache
def _plan_of(kind: Any) -> _Plan:
    hints = get_type_hints(kind)
    names = [each for each in fields(kind) if each.name != EXTRA]
    return _Plan(
        {each.name: reader_of(hints[each.name]) for each in names},
        tuple(
            each.name
            for each in names
            if each.default is MISSING and each.default_factory is MISSING
        ),
        EXTRA in hints,
    )


def reader_of(hint: Any) -> Reader:
    """Make a reader of values with this annotation."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return _as_it_is
    if is_dataclass(hint):
        return partial(read, cast("Callable[..., Any]", hint))
    if origin is Union:
        known = _first_of(tuple(each for each in arguments if each is not type(None)))
        return lambda value: None if value is None else known(value)
    if origin is tuple:
        return _tuple_reader(arguments)
    if origin is not None and issubclass(origin, Mapping):
        known = reader_of(arguments[1])
        return lambda value: {key: known(each) for key, each in _items(value)}
    if hint is datetime:
        return _moment
    if hint is float:
        return _number
    return lambda value: _exactly(hint, value)


def _first_of(kinds: tuple[Any, ...]) -> Reader:
    """Read as the first of these kinds that fits."""
    readers = [reader_of(each) for each in kinds]
    if len(readers) == 1:
        return readers[0]

    def read_any(value: Any) -> Any:
        failed = []
        for known in readers:
            try:
                return known(value)
            except (TypeError, ValueError) as error:
                failed.append(str(error))
        raise ValueError("; ".join(failed))

    return read_any


def _tuple_reader(arguments: tuple[Any, ...]) -> Reader:
    if arguments[-1] is Ellipsis:
        if arguments[0] is float:
            # embeddings: one call in C for all numbers
            return lambda value: tuple(map(float, _exactly(list, value)))
        known = reader_of(arguments[0])
        return lambda value: tuple([known(each) for each in _exactly(list, value)])
    readers = [reader_of(each) for each in arguments]

    def read_tuple(value: Any) -> tuple[Any, ...]:
        if len(_exactly(list, value)) != len(readers):
            raise ValueError(f"not {len(readers)} values")
        return tuple([known(each) for known, each in zip(readers, value)])

    return read_tuple


def _as_it_is(value: Any) -> Any:
    return value


def _items(value: Any) -> Any:
    return _exactly(dict, value).items()


def _moment(value: Any) -> datetime:
    # Python 3.9 does not read the Z
    return datetime.fromisoformat(_exactly(str, value).replace("Z", "+00:00"))


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise ValueError("not a number")
    return float(value)


def _exactly(kind: Any, value: Any) -> Any:
    if type(value) is not kind:
        raise ValueError(f"not of type {kind.__name__}")
    return value


def _name(kind: Any) -> str:
    return str(getattr(kind, "__name__", kind))
