"""nwc-export and nwc-import: the connections as a list that holds nothing secret.

Each entry of the list has the parameters of nwc-connect, by their names and with the values it takes,
and is checked as those are. What is spent of a budget is not in it: an imported budget begins anew.
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
from nwc.wallet.connections.record import Connection

FORMAT_VERSION = 1
# 10,000 connections with the longest names and one relay each have less.
MAX_TEXT_CHARACTERS = 16_000_000
# A command has COMMAND_TIMEOUT_S of nwc.service in all. Then the rest is left for the next call.
IMPORT_PATIENCE_S = 18.0
# So many entries are looked at before apps get their turn.
READ_AT_ONCE = 100
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
)
_CREATED, _UNCHANGED, _REFUSED = "created", "unchanged", "refused"

Json = dict[str, Any]


async def export(core: App) -> Json:
    """Show all connections as nwc-import takes them."""
    shown: list[Json] = []
    for live in core.connections.all():
        shown.append(_entry(live.record))
        if len(shown) % READ_AT_ONCE == 0:
            await asyncio.sleep(0)  # there can be thousands, and apps wait
    return {
        "version": FORMAT_VERSION,
        "connections": shown,
        **joined(unserved_warnings(core)),
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
    return entry if record.lud16 is None else {**entry, "lud16": record.lud16}


async def import_(core: App, connections: object) -> Json:
    """Make the connections of a list that are not there yet, and say of each entry what became of it.

    Args:
        core: of the service.
        connections: what `export` returns, as an object or as its text, or only the array in it.

    Raises:
        ArgumentError: this is no such list, or too long; nothing has been done.
        NodeError: lightningd is away; what was done before is done.

    """
    entries = _entries(connections)
    revoked = frozenset(await core.manager.revoked_ids())
    clock = asyncio.get_running_loop().time
    give_up_at = clock() + IMPORT_PATIENCE_S
    outcomes: list[Json] = []
    for number, entry in enumerate(entries, 1):
        outcome = await _import_one(core, entry, revoked)
        outcomes.append({"number": number, **outcome.shown(entry)})
        if clock() > give_up_at:
            break
        if number % READ_AT_ONCE == 0:
            await asyncio.sleep(0)
    results = [outcome["result"] for outcome in outcomes]
    summary: Json = {result: results.count(result) for result in (_CREATED, _UNCHANGED, _REFUSED)}
    if left := len(entries) - len(outcomes):
        summary |= {
            "not_done": left,
            "next": "there was not enough time for all: give the same command again, it goes on",
        }
    return {**summary, "connections": outcomes}


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of an entry; `reason` says why it was refused."""

    result: str
    reason: str | None = None
    warnings: tuple[str, ...] = ()

    def shown(self, entry: object) -> Json:
        given = entry if isinstance(entry, dict) else {}
        names = {field: _shortened(given[field]) for field in ("name", "pubkey") if field in given}
        reason = {} if self.reason is None else {"reason": _shortened(self.reason)}
        return {**names, "result": self.result, **reason, **joined(self.warnings)}


def _entries(given: object) -> list[Any]:
    """Return the entries of what a person has given."""
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
            "connections: must be what nwc-export shows, or the array of connections in it"
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
        raise ArgumentError(f"connections: must be JSON as nwc-export shows it; got {error}") from None


async def _import_one(core: App, entry: object, revoked: frozenset[str]) -> _Outcome:
    try:
        return await _take(core, _checked_fields(entry), revoked)
    except (ArgumentError, ManagementError) as error:
        return _Outcome(_REFUSED, str(error))
    except RecursionError:
        return _Outcome(_REFUSED, "is nested too deep")


def _checked_fields(entry: object) -> Json:
    if not isinstance(entry, dict):
        raise ArgumentError(f"must be an object with the fields {', '.join(_FIELDS)}")
    # It may be a limit that a newer version of the plugin has.
    if unknown := entry.keys() - set(_FIELDS):
        raise ArgumentError(f"has fields that this plugin does not know: {', '.join(sorted(unknown))}")
    return entry


async def _take(core: App, given: Json, revoked: frozenset[str]) -> _Outcome:
    client_pubkey = arguments.pubkey(given.get("pubkey"))
    live = core.connections.of_client(client_pubkey)
    expires = given.get("expires")
    is_as_stored = live is not None and expires is not None and expires == live.record.expires_at
    # Also a time that is over, if the connection here has the same.
    expires_at = live.record.expires_at if live and is_as_stored else arguments.expires_at(expires)
    record = arguments.connection(core, client_pubkey, expires_at, given)
    if live is not None:
        return _compared(live.record, record)
    if record.id in revoked:
        raise ArgumentError(
            "pubkey: this connection has been revoked; if the app shall have it again, make it with "
            "nwc-connect and this pubkey"
        )
    await core.connect(record)
    amounts = {field: given.get(field) for field in ("budget", "max_payment")}
    return _Outcome(_CREATED, warnings=tuple(arguments.bare_number_warnings(amounts)))


def _compared(stored: Connection, given: Connection) -> _Outcome:
    """Return the outcome for a connection that is there already: it is not changed."""
    ours, theirs = _entry(stored), _entry(given)
    different = [field for field in _FIELDS if ours.get(field) != theirs.get(field)]
    if not different:
        return _Outcome(_UNCHANGED)
    return _Outcome(
        _REFUSED,
        f"the connection {stored.name!r} of this pubkey has other values of {', '.join(different)}; it "
        "stays as it is; nwc-update changes it",
    )


def _shortened(value: object) -> str:
    """Return a text or number so that it can be shown; of anything else, what it is."""
    text = str(value) if isinstance(value, str | int) else f"({type(value).__name__})"
    return text[:_MAX_SHOWN_CHARACTERS].encode(errors="replace").decode()
