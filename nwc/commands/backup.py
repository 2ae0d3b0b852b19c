"""nwc-export and nwc-import: a list of the connections that holds nothing secret.

Each entry has the parameters of nwc-connect by name, and is checked in the same way. It does not hold
what was spent of the budget: an imported budget starts from zero.
"""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from nwc.commands import arguments
from nwc.commands.arguments import ArgumentError
from nwc.commands.shown import joined, unserved_warnings
from nwc.service import App
from nwc.wallet.connections.manager import MAX_CONNECTIONS, ManagementError
from nwc.wallet.connections.record import Connection, Pairing

FORMAT_VERSION = 1
# Enough for 10,000 connections with the longest names and one relay each.
MAX_TEXT_CHARACTERS = 16_000_000
# Less than COMMAND_TIMEOUT_S of nwc/service.py. The rest is left for the next call.
IMPORT_PATIENCE_S = 18.0
_MAX_SHOWN_CHARACTERS = 300

_FIELDS = (
    "name",
    "pubkey",
    "budget",
    "renewal",
    "max_payment",
    "view",
    "methods",
    "expires",
    "relays",
    "lud16",
    "notifications",
    # Only if the app made the URI.
    "pairing",
    "state",
    "notification_types",
)
_CREATED, _UNCHANGED, _REFUSED = "created", "unchanged", "refused"

Json = dict[str, Any]


async def export(app: App) -> Json:
    """Return all connections as nwc-import reads them."""
    return {
        "version": FORMAT_VERSION,
        "connections": [_entry(live.record) for live in app.connections.all()],
        **joined(unserved_warnings(app)),
    }


def _entry(record: Connection) -> Json:
    budget = record.budget
    entry: Json = {
        "name": record.name,
        "pubkey": record.client_pubkey,
        "budget": f"{budget.amount_msat}msat" if budget.amount_msat else str(budget.kind),
        "renewal": str(budget.renewal),
        "max_payment": "none" if budget.max_payment_msat is None else f"{budget.max_payment_msat}msat",
        "view": str(record.view),
        "methods": "all" if record.methods is None else list(record.methods),
        "expires": "never" if record.expires_at is None else record.expires_at,
        "relays": list(record.relays),
        "notifications": record.notifications,
    }
    more: Json = {
        "lud16": record.lud16,
        "pairing": None,
        "state": record.state,
        "notification_types": None,
    }
    if record.pairing is not Pairing.URI:
        more["pairing"] = str(record.pairing)
    if record.notification_types is not None:
        more["notification_types"] = list(record.notification_types)
    return {**entry, **{name: value for name, value in more.items() if value is not None}}


async def import_(app: App, connections: object) -> Json:
    """Create the missing connections of a list, and return the result for each entry.

    Args:
        app: the service.
        connections: the result of `export`, as an object or as text, or only the array in it.

    Raises:
        ArgumentError: this is not such a list, or it is too long; nothing has been created.
        NodeError: lightningd is unavailable; the connections before that are created.

    """
    entries = _entries(connections)
    revoked = frozenset(await app.manager.revoked_ids())
    clock = asyncio.get_running_loop().time
    give_up_at = clock() + IMPORT_PATIENCE_S
    outcomes: list[Json] = []
    for number, entry in enumerate(entries, 1):
        outcome = await _import_one(app, entry, revoked)
        outcomes.append({"number": number, **outcome.shown(entry)})
        if clock() > give_up_at:
            break
        await asyncio.sleep(0)  # there can be thousands, and apps are waiting
    results = [outcome["result"] for outcome in outcomes]
    summary: Json = {result: results.count(result) for result in (_CREATED, _UNCHANGED, _REFUSED)}
    if left := len(entries) - len(outcomes):
        summary |= {
            "not_done": left,
            "next": "there was not enough time for all: give the same command again for the rest",
        }
    return {**summary, "connections": outcomes}


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The result for an entry; `reason` says why it was refused."""

    result: str
    reason: str | None = None
    warnings: tuple[str, ...] = ()

    def shown(self, entry: object) -> Json:
        given = entry if isinstance(entry, dict) else {}
        names = {field: _shortened(given[field]) for field in ("name", "pubkey") if field in given}
        reason = {} if self.reason is None else {"reason": _shortened(self.reason)}
        return {**names, "result": self.result, **reason, **joined(self.warnings)}


def _entries(given: object) -> list[Any]:
    """Return the entries of the argument of nwc-import."""
    if isinstance(given, str):
        given = _read(given)
    if isinstance(given, dict):
        version = given.get("version")
        if type(version) is not int or version != FORMAT_VERSION:
            raise ArgumentError(
                f"connections: must have the version {FORMAT_VERSION}, which this plugin reads; "
                f"got {version!r:.40}"
            )
        given = given.get("connections")
    if not isinstance(given, list):
        raise ArgumentError(
            "connections: must be the result of nwc-export, or the array of connections in it"
        )
    if len(given) > MAX_CONNECTIONS:
        raise ArgumentError(f"connections: must be at most {MAX_CONNECTIONS}; got {len(given)}")
    return given


def _read(text: str) -> object:
    if len(text) > MAX_TEXT_CHARACTERS:
        raise ArgumentError(f"connections: must have at most {MAX_TEXT_CHARACTERS} characters")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArgumentError(f"connections: must be JSON, as nwc-export shows it; got {error}") from None


async def _import_one(app: App, entry: object, revoked: frozenset[str]) -> _Outcome:
    try:
        return await _take(app, _checked_fields(entry), revoked)
    except (ArgumentError, ManagementError) as error:
        return _Outcome(_REFUSED, str(error))
    except RecursionError:
        return _Outcome(_REFUSED, "is nested too deep")


def _checked_fields(entry: object) -> Json:
    if not isinstance(entry, dict):
        raise ArgumentError(f"must be an object with the fields {', '.join(_FIELDS)}")
    # An unknown field may be a limit that a newer version of the plugin knows.
    if unknown := entry.keys() - set(_FIELDS):
        raise ArgumentError(f"has fields that this plugin does not know: {', '.join(sorted(unknown))}")
    return entry


async def _take(app: App, given: Json, revoked: frozenset[str]) -> _Outcome:
    client_pubkey = arguments.pubkey(given.get("pubkey"))
    live = app.connections.of_client(client_pubkey)
    expires = given.get("expires")
    is_as_stored = live is not None and expires is not None and expires == live.record.expires_at
    # A time in the past is accepted if the stored connection has the same.
    expires_at = live.record.expires_at if live and is_as_stored else arguments.expires_at(expires)
    record = arguments.connection(app, client_pubkey, expires_at, given)
    if live is not None:
        return _compared(live.record, record)
    if record.id in revoked:
        raise ArgumentError(
            "pubkey: this connection was revoked; to give it back to the app, use nwc-connect with this "
            "pubkey"
        )
    await app.connect(record)
    amounts = {field: given.get(field) for field in ("budget", "max_payment")}
    return _Outcome(_CREATED, warnings=tuple(arguments.bare_number_warnings(amounts)))


def _compared(stored: Connection, given: Connection) -> _Outcome:
    """Return the result for a connection that exists: it is not changed."""
    ours, theirs = _entry(stored), _entry(given)
    # The state is gone when the app has used its connection.
    compared = [field for field in _FIELDS if field != "state"]
    different = [field for field in compared if ours.get(field) != theirs.get(field)]
    if not different:
        return _Outcome(_UNCHANGED)
    return _Outcome(
        _REFUSED,
        f"the connection {stored.name!r} of this pubkey has other values of {', '.join(different)}; it "
        "was not changed; use nwc-update",
    )


def _shortened(value: object) -> str:
    """Return a text or number for showing it; of anything else, the name of its type."""
    text = str(value) if isinstance(value, str | int) else f"({type(value).__name__})"
    return text[:_MAX_SHOWN_CHARACTERS].encode(errors="replace").decode()
