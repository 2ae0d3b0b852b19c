"""The nwc-* commands: check a person's words, act on the connections, show the result.

Each command is a coroutine that runs in the service's loop. Times a person gives are parsed in times.py.
"""

import asyncio
import contextlib
import io
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import segno

import nwc
from nwc.cln import versions
from nwc.cln.amounts import parse_amount_msat, warn_of_bare_number
from nwc.names import names_like, parse_name, parse_typed_name
from nwc.nip47.uri import connection_uri
from nwc.nostr.keys import KeyPair, parse_public_key
from nwc.nostr.relay_health import RelayInfo
from nwc.nostr.relay_url import is_onion, parse_relay_urls
from nwc.service import Core
from nwc.times import parse_expiry
from nwc.wallet.connections import Connection, View
from nwc.wallet.dispatch import METHODS, allowed_methods, sent_notifications
from nwc.wallet.live import LiveConnection
from nwc.wallet.spending.budget import Budget, BudgetKind, Renewal
from nwc.wallet.spending.ledger import BadLedger, Ledger

MAX_RELAYS_PER_CONNECTION = 10
# Look-alikes that a warning names.
MAX_ALIKE_SHOWN = 3
# How long a command waits for a relay, so that it can say whether the connection works already.
ANNOUNCE_PATIENCE_S = 1.0
DESCRIBED_AT_ONCE = 100

STILL_STARTING = "the plugin is still reading its books from lightningd; until then nothing can be paid"

Json = dict[str, Any]


class BadArgument(ValueError):
    """A person's argument breaks its rule; the text names the argument and the rule."""


# Arguments

# An empty argument is what a shell makes of an unset variable. It never gives an app a right:
# - nwc-update refuses it.
# - nwc-connect takes it for the default where the default gives the app nothing: budget, renewal, view,
#   lud16, and max_payment while there is no budget. So these places can stay empty by position.
# - nwc-connect refuses it everywhere else. None (null) is what leaves any place empty.
# Zero means zero: a budget of 0 is nothing. A cap of 0 would let nothing be paid, and is refused. Only
# words take a limit away: unlimited, none, all, never.
_WRITE_INSTEAD = {
    "methods": "all, or methods with commas between them",
    "expires": "never, or an end like 30d or 2027-12-31",
    "relays": "relay URLs with commas between them",
    "view": "own or node",
    "notifications": "true or false",
    "budget": "nothing, an amount like 50000sat, received or unlimited",
    "renewal": f"one of {', '.join(Renewal)}",
    "max_payment": "an amount like 10000sat, or none for no cap",
    "resume": "true to let a connection pay again whose payments are suspended",
}


def _is_empty(value: object) -> bool:
    return value == [] or (isinstance(value, str) and not value.strip())


def _refuse_empty(arguments: Json) -> None:
    for name, value in arguments.items():
        if _is_empty(value):
            raise BadArgument(f"{name}: is empty; write {_WRITE_INSTEAD[name]}")


def _new_name(argument: str, value: object) -> str:
    try:
        return parse_name(value)
    except ValueError as error:
        raise BadArgument(f"{argument}: {error}") from None


def _typed_name(value: object) -> str:
    try:
        return parse_typed_name(value)
    except ValueError as error:
        raise BadArgument(f"name: {error}") from None


def _words(name: str, value: object) -> list[str]:
    """Split a list as people give it: a JSON array, or words with commas or spaces between them."""
    if isinstance(value, str):
        return [word for word in re.split(r"[,\s]+", value) if word]
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return value
    raise BadArgument(f"{name}: must be words with commas between them, or a JSON array; got {value!r}")


def _relays(value: object, core: Core) -> tuple[str, ...]:
    if value is None:
        return core.settings.relays
    urls = _words("relays", value)
    if not 0 < len(urls) <= MAX_RELAYS_PER_CONNECTION:
        raise BadArgument(
            f"relays: must be 1 to {MAX_RELAYS_PER_CONNECTION} relay URLs; got {len(urls)}"
        )
    try:
        relays = parse_relay_urls(urls)
    except ValueError as error:
        raise BadArgument(f"relays: {error}") from None
    if core.settings.proxy is None and any(is_onion(url) for url in relays):
        raise BadArgument("relays: a .onion relay needs lightningd's option proxy")
    return relays


def _methods(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    words = _words("methods", value)
    if words == ["all"]:
        return None
    unknown = [word for word in words if word not in METHODS]
    if unknown or not words:
        raise BadArgument(f"methods: must be all, or some of {', '.join(METHODS)}; got {value!r}")
    return tuple(name for name in METHODS if name in words)


def _expires_at(value: object) -> int | None:
    try:
        return parse_expiry(value, int(time.time()))
    except ValueError as error:
        raise BadArgument(f"expires: {error}") from None


def _pubkey(value: object) -> str:
    if not isinstance(value, str):
        raise BadArgument(f"pubkey: must be 64 hex digits or npub1…; got {value!r}")
    try:
        return parse_public_key(value)
    except ValueError as error:
        raise BadArgument(f"pubkey: {error}") from None


_LUD16 = re.compile(r"[A-Za-z0-9._+-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*(:[0-9]{1,5})?")


def _lud16(value: object) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > 255 or not _LUD16.fullmatch(value):
        raise BadArgument(f"lud16: must be a lightning address, name@domain; got {value!r}")
    return value


def _flag(name: str, value: object, *, default: bool = False) -> bool:
    if value is None:
        return default
    if value is True or value == "true":
        return True
    if value is False or value == "false":
        return False
    raise BadArgument(f"{name}: must be true or false; got {value!r}")


def _view(value: object) -> View:
    if value is None or value == "":
        return View.OWN
    if not isinstance(value, str) or value not in tuple(View):
        raise BadArgument(f"view: must be own or node; got {value!r}")
    return View(value)


_WORDS = {
    "": BudgetKind.NOTHING,
    "none": BudgetKind.NOTHING,
    "nothing": BudgetKind.NOTHING,
    "received": BudgetKind.RECEIVED,
    "unlimited": BudgetKind.UNLIMITED,
}


def _budget(budget: object, renewal: object, max_payment: object, old: Budget) -> Budget:
    """Return the budget a person means; what is None is as in `old`."""
    now = int(time.time())
    kind, amount_msat = (old.kind, old.amount_msat) if budget is None else _granted(budget)
    period = old.renewal if renewal is None else _renewal(renewal)
    if kind is not BudgetKind.AMOUNT:
        if renewal is not None and period is not Renewal.NEVER:
            raise BadArgument("renewal: only a budget that is an amount can renew")
        period = Renewal.NEVER
    if kind is BudgetKind.NOTHING:
        is_given = max_payment is not None and _word(max_payment) != ""
        if is_given and _max_payment(max_payment) is not None:
            raise BadArgument("max_payment: needs a budget")
        return Budget()
    cap = old.max_payment_msat if max_payment is None else _max_payment(max_payment)
    # What is spent in this period stays spent when only the amount changes.
    is_same_grant = kind is old.kind and period is old.renewal
    return Budget(kind, amount_msat, period, old.since if is_same_grant else now, cap)


def _word(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _granted(value: object) -> tuple[BudgetKind, int]:
    word = _word(value)
    if isinstance(word, str) and word in _WORDS:
        return _WORDS[word], 0
    try:
        amount_msat = parse_amount_msat(value)
    except ValueError as error:
        raise BadArgument(f"budget: {error}; or nothing, received or unlimited") from None
    return (BudgetKind.AMOUNT, amount_msat) if amount_msat else (BudgetKind.NOTHING, 0)


def _renewal(value: object) -> Renewal:
    word = _word(value)
    if word == "":
        return Renewal.NEVER
    if not isinstance(word, str) or word not in tuple(Renewal):
        raise BadArgument(f"renewal: must be one of {', '.join(Renewal)}; got {value!r}")
    return Renewal(word)


def _max_payment(value: object) -> int | None:
    """Return the cap in msat, None for no cap."""
    _refuse_empty({"max_payment": value})
    if _word(value) == "none":
        return None
    try:
        cap_msat = parse_amount_msat(value)
    except ValueError as error:
        raise BadArgument(f"max_payment: {error}; or none") from None
    if cap_msat == 0:
        raise BadArgument(
            "max_payment: must be more than 0; write none for no cap, or budget=nothing if nothing may "
            "be paid"
        )
    return cap_msat


def _bare_number_warnings(amounts: Json) -> list[str]:
    found = {name: warn_of_bare_number(value) for name, value in amounts.items()}
    return [f"{name}: {warning}" for name, warning in found.items() if warning]


def _look_alike_warnings(core: Core, live: LiveConnection) -> list[str]:
    """Warn of names that a person could take for the name of this connection."""
    others = [other.record.name for other in core.connections.all() if other is not live]
    alike = names_like(live.record.name, others)
    if not alike:
        return []
    names = ", ".join(map(repr, alike[:MAX_ALIKE_SHOWN]))
    more = f" and {len(alike) - MAX_ALIKE_SHOWN} more" if len(alike) > MAX_ALIKE_SHOWN else ""
    return [f"name: looks like that of another connection: {names}{more}; new_name changes it"]


def _check_methods_have_budget(record: Connection) -> None:
    """An owner who names a method to pay with, and no budget, would wonder why the app cannot pay."""
    idle = [name for name in record.methods or () if name not in allowed_methods(record)]
    if idle:
        raise BadArgument(f"methods: {', '.join(idle)} needs a budget; give budget as well")


# Commands


async def connect(
    core: Core,
    name: object,
    budget: object = None,
    renewal: object = None,
    view: object = None,
    methods: object = None,
    expires: object = None,
    relays: object = None,
    pubkey: object = None,
    lud16: object = None,
    qr: object = None,
    notifications: object = None,
    max_payment: object = None,
) -> Json:
    """Make a connection and return its URI, which is shown this once.

    Raises:
        BadArgument, ManagementError: for the owner to mend.
        NodeError: lightningd is away.

    """
    with_qr = _flag("qr", qr)
    client = KeyPair.generate() if pubkey is None else None
    record = Connection(
        name=_new_name("name", name),
        client_pubkey=client.public_key if client else _pubkey(pubkey),
        relays=_relays(relays, core),
        created_at=int(time.time()),
        methods=_methods(methods),
        expires_at=_expires_at(expires),
        lud16=_lud16(lud16),
        view=_view(view),
        notifications=_flag("notifications", notifications, default=True),
        budget=_budget(budget, renewal, max_payment, Budget()),
    )
    _check_methods_have_budget(record)
    live = await core.manager.create(record)
    warnings = [
        *_bare_number_warnings({"budget": budget, "max_payment": max_payment}),
        *_look_alike_warnings(core, live),
    ]
    await _wait_for_relay(live)
    secret = client.secret_hex() if client else None
    uri = connection_uri(live.wallet_pubkey, record.relays, secret, record.lud16)
    shown = {"name": record.name, "uri": uri, **await _describe(core, live, warnings)}
    return _with_qr(shown, uri) if with_qr else shown


async def list_(core: Core, name: object = None) -> Json:
    """Show one connection or all of them."""
    chosen = core.connections.all() if name is None else [core.manager.find(_typed_name(name))]
    shown = []
    for live in chosen:
        shown.append({"name": live.record.name, **await _describe(core, live)})
        if len(shown) % DESCRIBED_AT_ONCE == 0:
            await asyncio.sleep(0)  # there can be thousands, and apps wait
    return {"connections": shown}


async def update(
    core: Core,
    name: object,
    new_name: object = None,
    methods: object = None,
    expires: object = None,
    relays: object = None,
    view: object = None,
    notifications: object = None,
    budget: object = None,
    renewal: object = None,
    max_payment: object = None,
    resume: object = None,
) -> Json:
    """Change a connection. What is not given stays.

    Raises:
        BadArgument, ManagementError: for the owner to mend.
        NodeError: lightningd is away.

    """
    given = {
        "methods": methods,
        "expires": expires,
        "relays": relays,
        "view": view,
        "notifications": notifications,
        "budget": budget,
        "renewal": renewal,
        "max_payment": max_payment,
        "resume": resume,
    }
    if new_name is None and all(value is None for value in given.values()):
        *first, last = given
        raise BadArgument(f"nothing to change: give new_name, {', '.join(first)} or {last}")
    _refuse_empty(given)
    resumes = _flag("resume", resume)
    checks: dict[str, tuple[object, Callable[[Any], Any]]] = {
        "name": (new_name, partial(_new_name, "new_name")),
        "methods": (methods, _methods),
        "expires_at": (expires, _expires_at),
        "relays": (relays, lambda value: _relays(value, core)),
        "view": (view, _view),
        "notifications": (notifications, partial(_flag, "notifications")),
    }
    changes = {field: check(value) for field, (value, check) in checks.items() if value is not None}

    def changed(old: Connection) -> Connection:
        # From the record as it is under the manager's lock: what is not given stays as it is then.
        new = replace(old, budget=_budget(budget, renewal, max_payment, old.budget), **changes)
        if methods is not None:
            _check_methods_have_budget(new)
        return new

    live = await core.manager.change(_typed_name(name), changed)
    if resumes:
        await core.payments.breaker.resume(live.record.client_pubkey)
    warnings = _bare_number_warnings({"budget": budget, "max_payment": max_payment})
    if new_name is not None:
        warnings += _look_alike_warnings(core, live)
    await _wait_for_relay(live)
    return {"name": live.record.name, **await _describe(core, live, warnings)}


async def revoke(core: Core, name: object) -> Json:
    """End a connection."""
    live = await core.manager.revoke(_typed_name(name))
    return {
        "name": live.record.name,
        "revoked": True,
        "client_pubkey": live.record.client_pubkey,
        "wallet_pubkey": live.wallet_pubkey,
    }


async def status(core: Core) -> Json:
    """Show how the service is doing."""
    warnings = [] if core.payments.is_started else [STILL_STARTING]
    if known_fault := versions.warning_of(versions.running_version()):
        warnings.append(known_fault)
    return {
        "version": nwc.__version__,
        "started_at": core.started_at,
        **_joined(warnings),
        "relays": [_describe_relay(relay) for relay in core.pool.info()],
        "connections": [
            {"name": live.record.name, **_describe_use(live), **_joined(_clock_warnings(live))}
            for live in core.connections.all()
        ],
        "requests_answered": _by_method(core.server.answered),
        "events_rejected": dict(core.server.rejected),
    }


# What is shown


async def _wait_for_relay(live: LiveConnection) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ANNOUNCE_PATIENCE_S):
            await live.is_announced.wait()


def _describe_relay(relay: RelayInfo) -> Json:
    shown = asdict(relay)
    return {"url": shown.pop("url"), "connections": shown.pop("inboxes"), **shown}


def _describe_use(live: LiveConnection) -> Json:
    return {
        "last_used_at": live.last_used_at,
        "requests_answered": _by_method(live.answered),
        "rate_limited": live.rate_limited,
    }


def _joined(warnings: list[str]) -> Json:
    """Return the warnings as the one text of the field `warning`, or no field."""
    return {"warning": ". ".join(warnings)} if warnings else {}


def _clock_warnings(live: LiveConnection) -> list[str]:
    """Warn of clocks that disagree; an app whose requests are ignored cannot tell its owner why."""
    ahead_s = live.clock_ahead_s
    if ahead_s is None:
        return []
    how_far = f"{abs(ahead_s)} seconds {'ahead of' if ahead_s > 0 else 'behind'}"
    return [
        f"the app's last request was ignored: its time is {how_far} this node's clock; "
        "one of them is wrong"
    ]


def _by_method(answered: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for (method, outcome), count in sorted(answered.items()):
        counts.setdefault(method, {})[outcome] = count
    return counts


async def _budget_of(core: Core, live: LiveConnection) -> Json:
    """Describe a budget and what is left of it, all in msat."""
    budget = live.record.budget
    if not budget.can_spend:
        return {"kind": budget.kind}
    if not core.payments.is_started:
        return {"kind": budget.kind, "warning": STILL_STARTING}
    try:
        ledger = await core.payments.ledgers.of(live.record.client_pubkey)
    except BadLedger as error:
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
        "payments_under_way": len(ledger.reservations),
    }
    return {name: value for name, value in described.items() if value is not None}


async def _describe(core: Core, live: LiveConnection, warnings: Sequence[str] = ()) -> Json:
    """Describe a connection; `warnings` are those of the command, and come first."""
    record = live.record
    described: Json = {
        "client_pubkey": record.client_pubkey,
        "wallet_pubkey": live.wallet_pubkey,
        "relays": [
            {
                "url": relay.url,
                "state": relay.state,
                "listening": core.pool.is_listening(live.wallet_pubkey, relay.url),
                "info_event": live.announced.get(relay.url, ""),
                **({"last_error": relay.last_error} if relay.last_error else {}),
            }
            for relay in core.pool.info(record.relays)
        ],
        "methods": list(allowed_methods(record)),
        "budget": await _budget_of(core, live),
        "view": record.view,
        "notifications": list(sent_notifications(record, core.settings.notifications)),
        "created_at": record.created_at,
        "expires_at": record.expires_at,
    }
    if record.lud16:
        described["lud16"] = record.lud16
    if live.last_used_at is not None:
        described |= _describe_use(live)
    all_warnings = [*warnings, *_clock_warnings(live)]
    suspended_at = core.payments.breaker.suspended_at(record.client_pubkey)
    if suspended_at is not None:
        described["payments_suspended_at"] = suspended_at
        all_warnings.append(
            "payments are suspended: lightningd stopped twice within an hour while this connection was "
            "paying; nwc-update with resume=true lets it pay again"
        )
    if not any(relay["state"] == "connected" for relay in described["relays"]):
        all_warnings.append("no relay is connected yet; apps cannot reach this node until one is")
    return described | _joined(all_warnings)


def _with_qr(shown: Json, uri: str) -> Json:
    """Add the QR code for a terminal.

    lightning-cli shows a newline inside a string as \\n, except in an answer that carries this hint.
    """
    drawing = io.StringIO()
    segno.make(uri, error="l").terminal(out=drawing, compact=True, border=2)
    return {"format-hint": "simple", **shown, "qr": "\n" + drawing.getvalue()}
