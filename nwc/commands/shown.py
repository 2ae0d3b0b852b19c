"""The results of the commands: a connection, its budget, its relays, and warnings for the owner."""

import asyncio
import contextlib
import io
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import segno

from nwc.names import names_like
from nwc.nostr.relay_health import RelayInfo
from nwc.service import App
from nwc.wallet.connections.budget import Budget
from nwc.wallet.connections.permissions import allowed_methods, sent_notifications
from nwc.wallet.connections.registry import LiveConnection
from nwc.wallet.records import RecordError
from nwc.wallet.spending.ledger import Ledger

# How many look-alikes a warning names.
MAX_ALIKE_SHOWN = 3
# How long a command waits for a relay, to show whether the connection works already.
ANNOUNCE_PATIENCE_S = 1.0

STILL_STARTING = "the plugin is still reading its books from lightningd; nothing can be paid until then"
_STOPPED = (
    "lightningd stopped while this connection was paying, twice within an hour or during a keysend"
)
_STOPS_UNREADABLE = (
    "the record of lightningd's stops is unreadable: it is damaged, or a newer version of the plugin "
    "has written it"
)

Json = dict[str, Any]


def look_alike_warnings(app: App, name: str, what_to_do: str = "new_name changes it") -> list[str]:
    """Return a warning if names of other connections look like this one, which is unique."""
    others = [live.record.name for live in app.connections.all() if live.record.name != name]
    alike = names_like(name, others)
    if not alike:
        return []
    names = ", ".join(map(repr, alike[:MAX_ALIKE_SHOWN]))
    more = f" and {len(alike) - MAX_ALIKE_SHOWN} more" if len(alike) > MAX_ALIKE_SHOWN else ""
    return [f"name: looks like that of another connection: {names}{more}; {what_to_do}"]


async def wait_for_relay(live: LiveConnection) -> None:
    """Wait until a relay has accepted the connection's info event, for ANNOUNCE_PATIENCE_S at most."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ANNOUNCE_PATIENCE_S):
            await live.is_published.wait()


def describe_relay(relay: RelayInfo) -> Json:
    """Return the fields of a relay for nwc-status."""
    shown = asdict(relay)
    return {"url": shown.pop("url"), "connections": shown.pop("recipients"), **shown}


def describe_use(live: LiveConnection) -> Json:
    """Return the fields on the requests of a connection since the start."""
    return {
        "last_used_at": live.last_used_at,
        "requests_answered": by_method(live.answered),
        "rate_limited": live.rate_limited,
    }


def unserved_warnings(app: App) -> list[str]:
    """Return a warning if connections are stored, but not served."""
    count = len(app.manager.unserved_keys())
    if count == 0:
        return []
    what = "1 connection is" if count == 1 else f"{count} connections are"
    return [f"{what} stored, but not served, and not shown here; lightningd's log of the start says why"]


def still_open_holds(count: int) -> str:
    """Return a warning of hold invoices of a revoked connection that are not cancelled yet."""
    return (
        f"{count} hold invoices of this connection are not cancelled yet; the plugin keeps retrying "
        "while hold is running"
    )


def joined(warnings: Sequence[str]) -> Json:
    """Return the warnings as one text in the field `warning`; no field without warnings."""
    return {"warning": ". ".join(warnings)} if warnings else {}


def clock_warnings(live: LiveConnection) -> list[str]:
    """Return a warning if the app's requests are ignored because the clocks disagree."""
    ahead_s = live.clock_ahead_s
    if ahead_s is None:
        return []
    how_far = f"{abs(ahead_s)} seconds {'ahead of' if ahead_s > 0 else 'behind'}"
    return [
        f"the app's last request was ignored: its time is {how_far} this node's clock; "
        "one of them is wrong"
    ]


def by_method(answered: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    """Return the number of answers by method and outcome."""
    counts: dict[str, dict[str, int]] = {}
    for (method, outcome), count in sorted(answered.items()):
        counts.setdefault(method, {})[outcome] = count
    return counts


async def _budget_of(app: App, live: LiveConnection) -> Json:
    """Return the fields of a budget and what is left of it, in msat."""
    budget = live.record.budget
    if not budget.can_spend:
        return {"kind": budget.kind}
    if not app.payments.is_started:
        return {"kind": budget.kind, "warning": STILL_STARTING}
    try:
        ledger = await app.payments.ledgers.of(live.record.client_pubkey)
    except RecordError as error:
        return {"kind": budget.kind, "warning": f"cannot spend: its ledger is {error}"}
    return {"kind": budget.kind, **_describe_ledger(budget, ledger, time.time())}


def _describe_ledger(budget: Budget, ledger: Ledger, now: float) -> Json:
    described: Json = {
        "granted_msat": ledger.granted(budget),
        "spent_msat": ledger.spent_at(budget, now),
        "reserved_msat": ledger.reserved_msat,
        "left_msat": ledger.left(budget, now),
        "renewal": budget.renewal,
        "renews_at": budget.renews_at(now),
        "max_payment_msat": budget.max_payment_msat,
        "pending_payments": len(ledger.reservations),
    }
    return {name: value for name, value in described.items() if value is not None}


async def describe(app: App, live: LiveConnection, warnings: Sequence[str] = ()) -> Json:
    """Return the fields of a connection; `warnings` are those of the command, and come first."""
    record = live.record
    has_hold = app.hold_invoices.plugin.is_available
    described: Json = {
        "client_pubkey": record.client_pubkey,
        "wallet_pubkey": live.wallet_pubkey,
        "relays": [
            {
                "url": relay.url,
                "state": relay.state,
                "listening": app.pool.is_listening(live.wallet_pubkey, relay.url),
                "info_event": live.info_states.get(relay.url, ""),
                **({"last_error": relay.last_error} if relay.last_error else {}),
            }
            for relay in app.pool.info(record.relays)
        ],
        "methods": list(allowed_methods(record, has_hold=has_hold)),
        "budget": await _budget_of(app, live),
        "view": record.view,
        "notifications": list(sent_notifications(record, app.settings.notifications, has_hold=has_hold)),
        "pairing": record.pairing,
        "created_at": record.created_at,
        "expires_at": record.expires_at,
    }
    if record.lud16:
        described["lud16"] = record.lud16
    if live.last_used_at is not None:
        described |= describe_use(live)
    all_warnings = [*warnings, *clock_warnings(live)]
    suspended_at = app.payments.breaker.suspended_at(record.client_pubkey)
    if suspended_at is not None:
        described["payments_suspended_at"] = suspended_at
        is_unreadable = app.payments.breaker.is_unreadable(record.client_pubkey)
        why = _STOPS_UNREADABLE if is_unreadable else _STOPPED
        all_warnings.append(f"payments are suspended: {why}; nwc-update with resume=true resumes them")
    if not any(relay["state"] == "connected" for relay in described["relays"]):
        all_warnings.append("no relay is connected yet; apps cannot reach this node until one is")
    return described | joined(all_warnings)


def in_simple_format(shown: Json) -> Json:
    """Return the result as lightning-cli prints it in lines of name=value, with nothing escaped.

    Before v26.06 lightning-cli prints a backslash and an n in a text as a line break. So somebody else's
    text could add lines of its own: each backslash becomes a question mark, but for those in `command`.
    """
    command = {"command": shown["command"]} if "command" in shown else {}
    return {"format-hint": "simple", **_without_backslashes(shown), **command}


def _without_backslashes(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\\", "?")
    if isinstance(value, list):
        return [_without_backslashes(item) for item in value]
    if isinstance(value, dict):
        return {name: _without_backslashes(item) for name, item in value.items()}
    return value


def with_qr(shown: Json, uri: str) -> Json:
    """Return the result with the QR code for a terminal added, or a warning if the URI is too long."""
    try:
        code = segno.make(uri, error="l")
    except segno.DataOverflowError:  # the URI is shown only this once, so it must not be lost
        warnings = [shown["warning"]] if "warning" in shown else []
        return shown | joined(
            [*warnings, "qr: the URI is too long for a QR code; it needs fewer relays"]
        )
    drawing = io.StringIO()
    code.terminal(out=drawing, compact=True, border=2)
    return in_simple_format({**shown, "qr": "\n" + drawing.getvalue()})
