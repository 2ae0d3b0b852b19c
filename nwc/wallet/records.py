"""The one reader of stored JSON, and how a record of an older version is upgraded.

Every JSON record that the plugin keeps in the datastore is a dataclass with a `RecordKind`. `read` makes
the dataclass from the stored fields, by the annotations of its own fields. It fails closed: a field that
is missing, unknown or not exactly of its type makes the whole record damaged.

Every record has the field `version`. A record of an older version is upgraded when it is read, one step
per version, and is written in the current version when it next changes. A start rewrites nothing.

A record of a newer version is refused and stays as it is: the owner may have gone back to an older
plugin for a day. A record with an unknown field is refused too: the field may be a limit, and ignoring
it could spend more than the owner allows. A version that changes the fields adds a step:

    KIND = RecordKind.of(Ledger, upgrades=(_from_1_to_2,))

    def _from_1_to_2(fields): return {**fields, "new_field": <what version 1 meant>}

The ledger holds the payments in flight, which are stored later in payment records. So a change of a
payment's fields is a new version of both kinds.

Names in the datastore whose record is "1" (revoked connections, pending notifications) and the position
among the paid invoices (one number) have no fields and no version. New fields of theirs need a key of
their own.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from functools import cache, partial
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Any, Self, TypeVar, Union, get_args, get_origin, get_type_hints

from nwc.errors import NwcError
from nwc.nostr.encoding import to_json

# No amount in msat, time or index of lightningd is larger.
MAX_NUMBER = 2**63 - 1
# `metadata` of a dataclass field that records of the current version may lack; they mean its default.
OPTIONAL: Mapping[str, bool] = MappingProxyType({"is_optional": True})

Fields = dict[str, Any]
Upgrade = Callable[[Fields], Fields]
_Reader = Callable[[Any], Any]
_T = TypeVar("_T")


class RecordError(NwcError, ValueError):
    """A stored record that cannot be read. The text says why; it holds nothing of the record."""


class DamagedRecordError(RecordError):
    """A record that no version of the plugin has written."""

    def __init__(self, why: str) -> None:
        super().__init__(f"damaged: {why}")


class RecordVersionError(RecordError):
    """A record without a version that this plugin reads."""


class NewerRecordError(RecordVersionError):
    """A record that a newer version of the plugin has written; it must stay as it is."""


@dataclass(frozen=True, slots=True)
class RecordKind:
    """One kind of stored record.

    Attributes:
        required: the fields that every record of the current version has.
        optional: the fields that it may have.
        upgrades: the step from version 1 to 2, the one from 2 to 3, and so on. Each takes the fields of
            a record and returns those of the next version; it may raise KeyError, TypeError, ValueError
            or AttributeError for a damaged record.

    """

    required: frozenset[str]
    optional: frozenset[str] = frozenset()
    upgrades: tuple[Upgrade, ...] = ()

    @classmethod
    def of(cls, record: type, upgrades: tuple[Upgrade, ...] = ()) -> Self:
        """Return the kind whose current version has the fields of a dataclass."""
        required, optional = _field_names(record)
        return cls(required, optional, upgrades)

    @property
    def version(self) -> int:
        """The current version, which is the one that is written."""
        return 1 + len(self.upgrades)

    def to_json(self, fields: Fields) -> str:
        """Return a record as stored."""
        return to_json({"version": self.version, **fields})

    def parse(self, text: str) -> Fields:
        """Return the fields of a stored record as the current version has them; see `read` for values.

        Raises:
            NewerRecordError: a newer version of the plugin has written it.
            RecordVersionError: it has no version.
            DamagedRecordError: it is not JSON, or has other fields than its version.

        """
        fields = _parse_object(text)
        version = fields.pop("version", None)
        if type(version) is not int or version < 1:
            raise RecordVersionError("damaged: it has no version")
        if version > self.version:
            raise NewerRecordError(
                f"written by a newer version of the plugin (record version {version!s:.20}; this plugin "
                f"reads up to {self.version})"
            )
        for upgrade in self.upgrades[version - 1 :]:
            try:
                fields = upgrade(fields)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise DamagedRecordError(f"no upgrade ({type(error).__name__})") from None
        _check_names(fields, self.required, self.optional)
        return fields


def _parse_object(text: str) -> Fields:
    """Return a stored JSON object.

    Raises:
        DamagedRecordError: it is not an object, or holds a lone surrogate, NaN or an infinite number,
            which cannot be sent to anybody.

    """
    try:
        stored = json.loads(text)
        json.dumps(stored, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        raise DamagedRecordError("not valid JSON") from None
    if not isinstance(stored, dict):
        raise DamagedRecordError("not a JSON object")
    return stored


def _check_names(stored: Iterable[str], required: frozenset[str], optional: frozenset[str]) -> None:
    names = set(stored)
    if missing := required - names:
        raise DamagedRecordError(f"without the field {min(missing)}")
    if names - required - optional:
        raise DamagedRecordError("with a field that its version does not have")


# The typed reader


@dataclass(frozen=True, slots=True)
class Bounds:
    """The smallest and the largest value of an integer: `Annotated[int, Bounds(0, 5)]`.

    An `int` without bounds is from 0 to MAX_NUMBER.
    """

    low: int
    high: int


def read(record: type[_T], stored: object) -> _T:
    """Return a dataclass made from stored fields.

    Each field must have exactly the type of its annotation: `str`, `bool`, `int`, `int` with Bounds, a
    StrEnum, a dataclass, `tuple[X, ...]` (stored as an array), `dict[str, X]`, `Any` (any JSON value),
    or one of these with `None`. Only the fields with OPTIONAL may be missing, whatever has a default.

    Raises:
        DamagedRecordError: a field is missing, unknown or of another type; the text names it.

    """
    wanted: Any = record
    value: _T = _named("the record", _reader_of(wanted), stored)
    return value


def _field_names(record: type) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of the required fields, and those of the optional ones."""
    optional = frozenset(field.name for field in fields(record) if "is_optional" in field.metadata)
    return frozenset(field.name for field in fields(record)) - optional, optional


@cache
def _reader_of(annotation: Any) -> _Reader:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is Any:
        return _read_any
    if annotation is int:
        return partial(_read_int, Bounds(0, MAX_NUMBER))
    if origin is Annotated:
        return partial(_read_int, arguments[1])
    if annotation in (str, bool):
        return partial(_read_exactly, annotation)
    if origin in (Union, UnionType):
        [some] = (argument for argument in arguments if argument is not NoneType)
        return partial(_read_or_none, _reader_of(some))
    if origin is tuple:
        return partial(_read_tuple, _reader_of(arguments[0]))
    if origin is dict:
        return partial(_read_dict, _reader_of(arguments[1]))
    if is_dataclass(annotation):
        return _dataclass_reader(annotation)
    if issubclass(annotation, StrEnum):
        return partial(_read_enum, annotation)
    raise TypeError(f"no stored field can be of the type {annotation}")


def _dataclass_reader(record: Any) -> _Reader:
    required, optional = _field_names(record)
    hints = get_type_hints(record, include_extras=True)
    readers = {name: _reader_of(hints[name]) for name in required | optional}

    def read_dataclass(stored: Any) -> Any:
        if not isinstance(stored, dict):
            raise ValueError("is not an object")  # noqa: TRY004 - what is wrong is the stored value
        _check_names(stored, required, optional)
        return record(
            **{name: _named(f"the field {name}", readers[name], value) for name, value in stored.items()}
        )

    return read_dataclass


def _named(what: str, reader: _Reader, stored: object) -> Any:
    """Return what a reader makes of a stored value; its error says of what it is."""
    try:
        return reader(stored)
    except DamagedRecordError:
        raise
    except ValueError as error:
        raise DamagedRecordError(f"{what} {error}") from None


# One reader for each kind of type. Each raises ValueError, whose text goes on after the field's name.


def _read_any(stored: object) -> object:
    return stored


def _read_int(bounds: Bounds, stored: object) -> int:
    # `type`, not `isinstance`: True is an int in Python.
    if type(stored) is not int or not bounds.low <= stored <= bounds.high:
        raise ValueError(f"is not an integer from {bounds.low} to {bounds.high}")
    return stored


def _read_exactly(wanted: type, stored: object) -> object:
    if type(stored) is not wanted:
        raise ValueError("is not a string" if wanted is str else "is not true or false")
    return stored


def _read_enum(wanted: type[StrEnum], stored: object) -> StrEnum:
    try:
        return wanted(stored)  # type: ignore[arg-type]
    except ValueError:
        raise ValueError(f"is not one of {', '.join(wanted)}") from None


def _read_or_none(reader: _Reader, stored: object) -> object:
    return None if stored is None else reader(stored)


def _read_tuple(reader: _Reader, stored: object) -> tuple[object, ...]:
    if not isinstance(stored, list):
        raise ValueError("is not an array")  # noqa: TRY004
    return tuple(map(reader, stored))


def _read_dict(reader: _Reader, stored: object) -> dict[str, object]:
    if not isinstance(stored, dict):
        raise ValueError("is not an object")  # noqa: TRY004
    return {name: reader(value) for name, value in stored.items()}
