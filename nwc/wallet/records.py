"""The version of each kind of stored record, and the way from each older version to the current one.

Every JSON record that the plugin keeps in the datastore has the field `version`. A record of an older
version is upgraded when it is read, one step for each version, and is stored in the current version when
it next changes. Nothing is rewritten at a start.

A record of a newer version is refused and left as it is: the owner may have gone back to an older plugin
for a day. So is one with a field that its version does not have: the field may be a limit, and whoever
does not know it could spend more than the owner allows. So a version that adds, removes or changes a
field adds a step here:

    KIND = RecordKind(required=…, optional=…, upgrades=(_from_1_to_2,))

    def _from_1_to_2(fields): return {**fields, "new_field": <what version 1 meant>}

`required` and `optional` are those of the current version. A payment in flight is kept in the ledger and
later in a payment record; a change of its fields is a new version of both kinds.

Names in the datastore whose record is "1" (revoked connections, pending notifications) and the position
among the paid invoices (one number) hold no fields and have no version. What needs more than they hold
gets a key of its own.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nwc.errors import NwcError
from nwc.nostr.encoding import to_json

# More is no amount, time or number of an invoice, and lightningd takes no more either.
MAX_NUMBER = 2**63 - 1

Fields = dict[str, Any]
Upgrade = Callable[[Fields], Fields]


class RecordVersionError(NwcError, ValueError):
    """A record's version is not one that this plugin reads; the text says so to the owner."""


class NewerRecordError(RecordVersionError):
    """A newer version of the plugin has written the record, which must stay as it is."""


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

    @property
    def version(self) -> int:
        """The current version: the one that is written."""
        return 1 + len(self.upgrades)

    def to_json(self, fields: Fields) -> str:
        """Return a record as stored."""
        return to_json({"version": self.version, **fields})

    def parse(self, text: str) -> Fields:
        """Return the fields of a stored record, as those of the current version.

        The values are not checked, only which fields there are.

        Raises:
            NewerRecordError: a newer version of the plugin has written it.
            RecordVersionError: it has no version.
            ValueError, KeyError, TypeError, AttributeError: it is damaged.

        """
        fields = parse_stored(text)
        version = fields.pop("version", None)
        if type(version) is not int or version < 1:
            raise RecordVersionError("damaged: it has no version")
        if version > self.version:
            raise NewerRecordError(
                f"written by a newer version of the plugin (record version {version!s:.20}; this plugin "
                f"reads up to {self.version})"
            )
        for upgrade in self.upgrades[version - 1 :]:
            fields = upgrade(fields)
        if not self.required <= fields.keys() <= self.required | self.optional:
            raise ValueError("other fields than those of its version")
        return fields


def parse_stored(text: str) -> dict[str, Any]:
    """Read a stored JSON object.

    Raises:
        ValueError: it is none, or holds what could not be told to anybody: a lone surrogate, NaN, a
            number without end.

    """
    try:
        stored = json.loads(text)
        json.dumps(stored, ensure_ascii=False, allow_nan=False).encode()
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(stored, dict):
        raise ValueError("not an object")  # noqa: TRY004 - what stands there is the value, not the type
    return stored


def is_number(value: object) -> bool:
    """Tell whether a value is an integer from 0 to MAX_NUMBER."""
    # `type`, not `isinstance`: true is an int for Python.
    return type(value) is int and 0 <= value <= MAX_NUMBER
