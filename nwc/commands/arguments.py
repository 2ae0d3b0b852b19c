"""The arguments of the nwc-* commands: each function checks one and returns its value.

Names are checked in nwc/names.py, times in times.py, amounts in amounts.py.
"""

import re
import time
from collections.abc import Mapping
from typing import Any

from nwc.commands.amounts import parse_amount_msat, warn_of_bare_number
from nwc.commands.times import parse_expiry
from nwc.errors import NwcError
from nwc.names import parse_name, parse_typed_name
from nwc.nip47.methods import METHODS
from nwc.nip47.notification import NOTIFICATION_TYPES
from nwc.nip47.walletauth import STATE
from nwc.nostr.keys import parse_public_key
from nwc.nostr.relay_url import is_onion, parse_relay_urls
from nwc.options import MAX_RELAYS
from nwc.service import App
from nwc.wallet.connections.budget import Budget, BudgetKind, Renewal
from nwc.wallet.connections.permissions import allowed_methods
from nwc.wallet.connections.record import Connection, Pairing, View

Json = dict[str, Any]


class ArgumentError(NwcError, ValueError):
    """An argument of a command breaks its rule; the text names the argument and the rule."""


# A shell makes an empty argument of an unset variable. So it never gives an app a right:
# - nwc-update refuses it.
# - nwc-connect takes the default if the default gives the app nothing: budget, renewal, view, lud16, and
#   max_payment without a budget. So these can stay empty between arguments by position.
# - nwc-connect refuses it everywhere else. None (null) leaves out any argument.
# Zero means zero: a budget of 0 is nothing, and a cap of 0 is refused since it would allow no payment.
# Only words remove a limit: unlimited, none, all, never.
_WRITE_INSTEAD = {
    "methods": "all, or methods separated by commas",
    "expires": "never, or a time like 30d or 2027-12-31",
    "relays": "relay URLs separated by commas",
    "view": "own or node",
    "notifications": "true or false",
    "budget": "nothing, an amount like 50000sat, received or unlimited",
    "renewal": f"one of {', '.join(Renewal)}",
    "max_payment": "an amount like 10000sat, or none for no cap",
    "resume": "true to resume the suspended payments of a connection",
}


def _is_empty(value: object) -> bool:
    return value == [] or (isinstance(value, str) and not value.strip())


def refuse_empty(arguments: Json) -> None:
    """Raise ArgumentError if one of these arguments (by name) is an empty text or list."""
    for name, value in arguments.items():
        if _is_empty(value):
            raise ArgumentError(f"{name}: is empty; write {_WRITE_INSTEAD[name]}")


def new_name(argument: str, value: object) -> str:
    """Return the new name that was given as this argument."""
    try:
        return parse_name(value)
    except ValueError as error:
        raise ArgumentError(f"{argument}: {error}") from None


def typed_name(value: object) -> str:
    """Return the name of a connection to look up."""
    try:
        return parse_typed_name(value)
    except ValueError as error:
        raise ArgumentError(f"name: {error}") from None


def _words(name: str, value: object) -> list[str]:
    """Return the words of a list: a JSON array, or words separated by commas or spaces."""
    if isinstance(value, str):
        return [word for word in re.split(r"[,\s]+", value) if word]
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return value
    raise ArgumentError(f"{name}: must be words separated by commas, or a JSON array; got {value!r}")


def relays(value: object, app: App) -> tuple[str, ...]:
    """Return relay URLs in normal form; None means those of nwc-relay."""
    if value is None:
        return app.settings.relays
    urls = _words("relays", value)
    if not 0 < len(urls) <= MAX_RELAYS:
        raise ArgumentError(f"relays: must be 1 to {MAX_RELAYS} relay URLs; got {len(urls)}")
    try:
        parsed = parse_relay_urls(urls)
    except ValueError as error:
        raise ArgumentError(f"relays: {error}") from None
    if app.settings.proxy is None and any(is_onion(url) for url in parsed):
        raise ArgumentError("relays: a .onion relay needs lightningd's option proxy")
    return parsed


def methods(value: object) -> tuple[str, ...] | None:
    """Return NIP-47 methods in the order of METHODS; None for all that need not be named."""
    if value is None:
        return None
    words = _words("methods", value)
    if words == ["all"]:
        return None
    unknown = [word for word in words if word not in METHODS]
    if unknown or not words:
        raise ArgumentError(f"methods: must be all, or some of {', '.join(METHODS)}; got {value!r}")
    return tuple(name for name in METHODS if name in words)


def expires_at(value: object) -> int | None:
    """Return the time when a connection expires, in Unix seconds; None for never."""
    try:
        return parse_expiry(value, int(time.time()))
    except ValueError as error:
        raise ArgumentError(f"expires: {error}") from None


def pubkey(value: object) -> str:
    """Return a public key as 64 hex digits."""
    if not isinstance(value, str):
        raise ArgumentError(f"pubkey: must be 64 hex digits or npub1…; got {value!r}")
    try:
        return parse_public_key(value)
    except ValueError as error:
        raise ArgumentError(f"pubkey: {error}") from None


_LUD16 = re.compile(r"[A-Za-z0-9._+-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*(:[0-9]{1,5})?")


def lud16(value: object) -> str | None:
    """Return a lightning address (LUD-16); None for an empty one."""
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > 255 or not _LUD16.fullmatch(value):
        raise ArgumentError(f"lud16: must be a lightning address, name@domain; got {value!r}")
    return value


_DIGITS = re.compile(r"[0-9]{1,18}")


def flag(name: str, value: object, *, default: bool = False) -> bool:
    """Return the boolean that was given as this argument."""
    if value is None:
        return default
    if value is True or value == "true":
        return True
    if value is False or value == "false":
        return False
    raise ArgumentError(f"{name}: must be true or false; got {value!r}")


def number(name: str, value: object, *, minimum: int, maximum: int, default: int) -> int:
    """Return the integer that was given as this argument, as a number or its digits."""
    if value is None:
        return default
    text = value.strip() if isinstance(value, str) else str(value)
    # Bounded before it is read: Python refuses to read thousands of digits.
    is_number = not isinstance(value, bool) and _DIGITS.fullmatch(text) is not None
    if not is_number or not minimum <= int(text) <= maximum:
        raise ArgumentError(f"{name}: must be a number from {minimum} to {maximum}; got {value!r:.80}")
    return int(text)


def view(value: object) -> View:
    """Return the view of a connection."""
    if value is None or value == "":
        return View.OWN
    if not isinstance(value, str) or value not in tuple(View):
        raise ArgumentError(f"view: must be own or node; got {value!r}")
    return View(value)


_WORDS = {
    "": BudgetKind.NOTHING,
    "none": BudgetKind.NOTHING,
    "nothing": BudgetKind.NOTHING,
    "received": BudgetKind.RECEIVED,
    "unlimited": BudgetKind.UNLIMITED,
}


def budget(budget: object, renewal: object, max_payment: object, old: Budget) -> Budget:
    """Return the budget. For an argument that is None the value of `old` stays."""
    now = int(time.time())
    kind, amount_msat = (old.kind, old.amount_msat) if budget is None else _granted(budget)
    period = old.renewal if renewal is None else _renewal(renewal)
    if kind is not BudgetKind.AMOUNT:
        if renewal is not None and period is not Renewal.NEVER:
            raise ArgumentError("renewal: only a budget that is an amount can renew")
        period = Renewal.NEVER
    if kind is BudgetKind.NOTHING:
        is_given = max_payment is not None and _word(max_payment) != ""
        if is_given and _max_payment(max_payment) is not None:
            raise ArgumentError("max_payment: needs a budget")
        return Budget()
    cap = old.max_payment_msat if max_payment is None else _max_payment(max_payment)
    # The amount spent in this period stays spent if only the size of the budget changes.
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
        raise ArgumentError(f"budget: {error}; or nothing, received or unlimited") from None
    return (BudgetKind.AMOUNT, amount_msat) if amount_msat else (BudgetKind.NOTHING, 0)


def _renewal(value: object) -> Renewal:
    word = _word(value)
    if word == "":
        return Renewal.NEVER
    if not isinstance(word, str) or word not in tuple(Renewal):
        raise ArgumentError(f"renewal: must be one of {', '.join(Renewal)}; got {value!r}")
    return Renewal(word)


def _max_payment(value: object) -> int | None:
    """Return the cap in msat, None for no cap."""
    refuse_empty({"max_payment": value})
    if _word(value) == "none":
        return None
    try:
        cap_msat = parse_amount_msat(value)
    except ValueError as error:
        raise ArgumentError(f"max_payment: {error}; or none") from None
    if cap_msat == 0:
        raise ArgumentError(
            "max_payment: must be more than 0; write none for no cap, or budget=nothing for no payments"
        )
    return cap_msat


def bare_number_warnings(amounts: Json) -> list[str]:
    """Return warnings for amounts (by argument) that are small numbers without a unit."""
    found = {name: warn_of_bare_number(value) for name, value in amounts.items()}
    return [f"{name}: {warning}" for name, warning in found.items() if warning]


def check_methods_have_budget(record: Connection) -> None:
    """Raise ArgumentError if a method that pays was named and there is no budget to pay from."""
    idle = [name for name in record.methods or () if name not in allowed_methods(record, has_hold=True)]
    if idle:
        raise ArgumentError(f"methods: {', '.join(idle)} needs a budget; give budget as well")


def connection(
    app: App, client_pubkey: str, expires_at: int | None, given: Mapping[str, object]
) -> Connection:
    """Return the record of a new connection.

    Args:
        app: has the defaults.
        client_pubkey: checked, 64 hex digits.
        expires_at: checked, Unix seconds; None for never.
        given: the other arguments of nwc-connect, unchecked; a missing one or None is the default.

    Raises:
        ArgumentError: an argument breaks its rule.

    """
    return Connection(
        name=new_name("name", given.get("name")),
        client_pubkey=client_pubkey,
        relays=relays(given.get("relays"), app),
        created_at=int(time.time()),
        methods=methods(given.get("methods")),
        expires_at=expires_at,
        lud16=lud16(given.get("lud16")),
        view=view(given.get("view")),
        notifications=flag("notifications", given.get("notifications"), default=True),
        budget=budget(given.get("budget"), given.get("renewal"), given.get("max_payment"), Budget()),
        pairing=_pairing(given.get("pairing")),
        state=_state(given.get("state")),
        notification_types=_notification_types(given.get("notification_types")),
    )


def _pairing(value: object) -> Pairing:
    if value is None:
        return Pairing.URI
    if not isinstance(value, str) or value not in tuple(Pairing):
        raise ArgumentError(f"pairing: must be one of {', '.join(Pairing)}; got {value!r:.80}")
    return Pairing(value)


def _state(value: object) -> str | None:
    if value is not None and not (isinstance(value, str) and STATE.fullmatch(value)):
        raise ArgumentError(f"state: must be 1 to 256 letters and digits; got {value!r:.80}")
    return value


def _notification_types(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    words = _words("notification_types", value)
    if not words or not set(words) <= set(NOTIFICATION_TYPES):
        known = ", ".join(NOTIFICATION_TYPES)
        raise ArgumentError(f"notification_types: must be some of {known}; got {value!r:.80}")
    return tuple(name for name in NOTIFICATION_TYPES if name in words)
