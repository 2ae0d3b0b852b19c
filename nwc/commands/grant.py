"""What an app gets that has made its own key (NWC-08): what it asks for, or less.

The owner's arguments make it less, or choose what the app has left open.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from nwc.commands import arguments
from nwc.commands.arguments import ArgumentError
from nwc.commands.times import parse_expiry
from nwc.nip47.methods import METHODS
from nwc.nip47.notification import NOTIFICATION_TYPES, OF_HOLD_INVOICES, PAYMENT_SENT
from nwc.nip47.walletauth import WalletAuth
from nwc.nostr.relay_url import is_local, is_onion, is_same_relay
from nwc.service import App
from nwc.wallet.connections.budget import Budget, BudgetKind, Renewal
from nwc.wallet.connections.permissions import sent_notifications
from nwc.wallet.connections.record import Connection, Pairing, View

Given = Mapping[str, object]

EACH = {
    Renewal.NEVER: "in all",
    Renewal.DAILY: "a day",
    Renewal.WEEKLY: "a week",
    Renewal.MONTHLY: "a month",
    Renewal.YEARLY: "a year",
}
# The renewals by which an amount is never granted more often than asked. Months do not consist of weeks:
# the last day of one and the first of the next can be in the same week.
_NO_MORE_OFTEN = {
    Renewal.NEVER: {Renewal.NEVER},
    Renewal.DAILY: set(Renewal),
    Renewal.WEEKLY: {Renewal.WEEKLY, Renewal.NEVER},
    Renewal.MONTHLY: {Renewal.MONTHLY, Renewal.YEARLY, Renewal.NEVER},
    Renewal.YEARLY: {Renewal.YEARLY, Renewal.NEVER},
}


@dataclass(frozen=True, slots=True)
class Grant:
    """What an app would get.

    Attributes:
        record: the connection.
        not_granted: what it asked for and does not get, each with the reason.
        missing: arguments that the owner has to give first, with the reason.

    """

    record: Connection
    not_granted: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)


def granted(app: App, asked: WalletAuth, name: str | None, given: Given) -> Grant:
    """Return what an app gets: never more than it asks for.

    Args:
        app: the service.
        asked: what the app asks for.
        name: of the connection, checked; None if neither the owner nor the app gives one.
        given: the owner's arguments, unchecked.

    Raises:
        ArgumentError: the app needs what it cannot get, or the owner gives more than it asks for.

    """
    if name is None:
        raise ArgumentError("name: the app gives no name; give one with name=")
    if app.connections.named(name) is not None:
        raise ArgumentError(f"name: there is a connection {name!r} already; give another with name=")
    not_granted = [f"{unused}: unknown to this plugin" for unused in asked.unused]
    missing: dict[str, str] = {}
    chosen = _methods(app, asked, given, not_granted, missing)
    budget = _budget(asked, given, chosen)
    methods = _affordable(asked, chosen, budget, not_granted, missing)
    if not methods and not missing:
        raise ArgumentError(f"uri: the app would get no method at all: {'; '.join(not_granted)}")
    types = _notification_types(asked, given, not_granted)
    record = Connection(
        name=name,
        client_pubkey=asked.client_pubkey,
        relays=_relays(app, asked, given, not_granted),
        created_at=int(time.time()),
        methods=methods,
        expires_at=_expires_at(asked, given),
        lud16=arguments.lud16(given.get("lud16")),
        view=_view(asked, given),
        notifications=bool(types),
        budget=budget,
        pairing=Pairing.WALLETAUTH,
        state=asked.state,
        notification_types=types or None,
    )
    not_granted += _not_sent(app, record)
    return Grant(record, not_granted, missing)


def _methods(
    app: App, asked: WalletAuth, given: Given, not_granted: list[str], missing: dict[str, str]
) -> tuple[str, ...]:
    """Return the methods that the app asks for and the owner allows, whatever the budget is."""
    asked_for = [*asked.required, *asked.optional]
    unserved = {name: why for name in asked_for if (why := _why_not_served(app, name))}
    for name in asked.required:
        if name in unserved:
            raise ArgumentError(f"uri: the app needs {name}: {unserved[name]}")
    not_granted += [f"{name}: {why}" for name, why in unserved.items()]
    chosen = arguments.methods(given.get("methods"))
    for name in chosen or ():
        if why := _why_not_served(app, name):
            raise ArgumentError(f"methods: {name}: {why}")
    if not asked_for:
        return _freely_chosen(app, given, chosen, missing)
    wanted = [name for name in METHODS if name in asked_for and name not in unserved]
    if chosen is None:
        return _not_chosen(asked, wanted, not_granted, missing)
    for name in chosen:
        if name not in wanted:
            raise ArgumentError(f"methods: the app does not ask for {name}")
    for name in asked.required:
        if name not in chosen:
            raise ArgumentError(f"methods: the app needs {name}; it wants no connection without it")
    not_granted += [f"{name}: not in methods" for name in wanted if name not in chosen]
    return chosen


def _why_not_served(app: App, name: str) -> str | None:
    """Return why nobody can call a method here; None if one can."""
    if name not in METHODS:
        return "this plugin does not have it"
    if METHODS[name].needs_hold and not app.hold_invoices.plugin.is_available:
        return "it needs the plugin hold, which the node does not run"
    return None


def _not_chosen(
    asked: WalletAuth, wanted: list[str], not_granted: list[str], missing: dict[str, str]
) -> tuple[str, ...]:
    """Return the methods that an app gets if the owner names none."""
    by_name = [name for name in wanted if METHODS[name].only_by_name]
    needed = [name for name in by_name if name in asked.required]
    if needed:
        missing["methods"] = (
            f"the app needs {', '.join(needed)}, which you have to name; to grant all that it asks for "
            f"write methods={','.join(wanted)}"
        )
    not_granted += [f"{name}: only if methods names it" for name in by_name if name not in needed]
    return tuple(name for name in wanted if name not in by_name or name in needed)


def _freely_chosen(
    app: App, given: Given, chosen: tuple[str, ...] | None, missing: dict[str, str]
) -> tuple[str, ...]:
    """Return the methods that the owner chooses for an app that names none."""
    if chosen is not None:
        return chosen
    if given.get("methods") is None:
        missing["methods"] = "the app does not say which methods it needs; choose them"
        return ()
    spends = arguments.budget(given.get("budget"), None, None, Budget()).can_spend
    offered = (method for method in METHODS.values() if not method.only_by_name)
    affordable = (method.name for method in offered if spends or not method.spends)
    return tuple(name for name in affordable if _why_not_served(app, name) is None)


def _affordable(
    asked: WalletAuth,
    chosen: tuple[str, ...],
    budget: Budget,
    not_granted: list[str],
    missing: dict[str, str],
) -> tuple[str, ...]:
    """Return the methods without those that pay if there is no budget."""
    if budget.can_spend:
        return chosen
    paying = [name for name in chosen if METHODS[name].spends]
    needed = [name for name in paying if name in asked.required or name not in asked.optional]
    if needed:
        missing["budget"] = (
            f"the app needs {', '.join(needed)}, which pays, and there is no limit yet; choose one: an "
            "amount like 50000sat, received or unlimited"
        )
    not_granted += [
        f"{name}: it pays, and there is no budget; budget= gives one"
        for name in paying
        if name not in needed
    ]
    return tuple(name for name in chosen if name not in paying or name in needed)


def _budget(asked: WalletAuth, given: Given, chosen: Iterable[str]) -> Budget:
    """Return the budget: what the app asks for, or less; what the owner says if it names no limit."""
    amount, renewal = given.get("budget"), given.get("renewal")
    if not any(METHODS[name].spends for name in chosen):
        if arguments.budget(amount, renewal, given.get("max_payment"), Budget()).can_spend:
            raise ArgumentError("budget: the app asks for no method that pays")
        return Budget()
    if amount is None:
        amount = _asked_amount(asked)
    if renewal is None and _is_amount(amount):
        renewal = asked.renewal if asked.max_amount_msat is not None else None
    budget = arguments.budget(amount, renewal, given.get("max_payment"), Budget())
    if budget.can_spend:
        _check_no_more(asked, budget)
    return budget


def _asked_amount(asked: WalletAuth) -> str | None:
    """Return the budget that the app asks for, as nwc-connect takes it."""
    if asked.max_amount_msat is not None:
        return f"{asked.max_amount_msat}msat"
    return str(BudgetKind.RECEIVED) if asked.isolated else None


def _is_amount(amount: object) -> bool:
    return arguments.budget(amount, None, None, Budget()).kind is BudgetKind.AMOUNT


def _check_no_more(asked: WalletAuth, budget: Budget) -> None:
    """Raise ArgumentError if a budget is more than the app asks for."""
    if asked.isolated and asked.max_amount_msat is not None:
        raise ArgumentError(
            "uri: the app asks for a balance of its own (isolated) and for max_amount; a connection can "
            "have only one of these limits. budget=nothing connects an app that can do without paying"
        )
    if asked.isolated and budget.kind is not BudgetKind.RECEIVED:
        raise ArgumentError(
            "budget: the app asks for a balance of its own (isolated), so it must be received or nothing"
        )
    if asked.max_amount_msat is None:
        return
    if budget.kind is not BudgetKind.AMOUNT or budget.amount_msat > asked.max_amount_msat:
        limit = amount_in_words(asked.max_amount_msat)
        raise ArgumentError(f"budget: must be at most {limit}, which the app asks for")
    allowed = _NO_MORE_OFTEN[Renewal(asked.renewal)]
    if budget.renewal not in allowed:
        words = ", ".join(name for name in Renewal if name in allowed)
        raise ArgumentError(
            f"renewal: the app asks for an amount {EACH[Renewal(asked.renewal)]}, so it must be {words}"
        )


def _notification_types(asked: WalletAuth, given: Given, not_granted: list[str]) -> tuple[str, ...]:
    wanted = asked.notification_types
    not_granted += [
        f"notifications {name}: this plugin does not have them"
        for name in wanted
        if name not in NOTIFICATION_TYPES
    ]
    known = tuple(name for name in NOTIFICATION_TYPES if name in wanted)
    chosen = given.get("notifications")
    if arguments.flag("notifications", chosen, default=True):
        if chosen is not None and not known:
            raise ArgumentError("notifications: the app does not ask for them")
        return known
    not_granted += [f"notifications {name}: not with notifications=false" for name in known]
    return ()


def _not_sent(app: App, record: Connection) -> list[str]:
    """Return the notification types that a connection does not get as things are, with the reason."""
    is_enabled, has_hold = app.settings.notifications, app.hold_invoices.plugin.is_available
    sent = sent_notifications(record, is_enabled, has_hold=has_hold)
    reasons = {PAYMENT_SENT: "it cannot pay"}
    reasons |= dict.fromkeys(OF_HOLD_INVOICES, "it cannot make hold invoices")
    if not is_enabled:
        reasons = dict.fromkeys(NOTIFICATION_TYPES, "the option nwc-notifications is false")
    return [
        f"notifications {name}: {reasons[name]}"
        for name in record.notification_types or ()
        if name not in sent
    ]


def _view(asked: WalletAuth, given: Given) -> View:
    view = arguments.view(given.get("view"))
    if asked.isolated and view is not View.OWN:
        raise ArgumentError(
            "view: the app asks for its own transactions only (isolated); it must be own"
        )
    return view


def _expires_at(asked: WalletAuth, given: Given) -> int | None:
    latest, chosen = asked.expires_at, given.get("expires")
    if chosen is None:
        try:
            return parse_expiry(latest, int(time.time()))
        except ValueError as error:
            raise ArgumentError(f"uri: expires_at: {error}; {_other_time(latest)}") from None
    expires_at = arguments.expires_at(chosen)
    if latest is not None and (expires_at is None or expires_at > latest):
        raise ArgumentError(f"expires: must be at most {latest} in Unix seconds, as the app asks")
    return expires_at


def _other_time(latest: int | None) -> str:
    """Return what the owner can do about a time of the app that cannot be used."""
    if latest is not None and latest <= time.time():
        return "let the app make a new URI"
    return "give a time of your own with expires="


def _relays(app: App, asked: WalletAuth, given: Given, not_granted: list[str]) -> tuple[str, ...]:
    """Return the relays to use: those of the app, since it listens on no other."""
    named = None if given.get("relays") is None else arguments.relays(given["relays"], app)
    for url in named or ():
        if not any(is_same_relay(url, theirs) for theirs in asked.relays):
            raise ArgumentError(f"relays: the app does not listen on {url}; it names {_listed(asked)}")
    reasons = {url: _why_not(app, url, named) for url in asked.relays}
    not_granted += [f"relay {url}: {why}" for url, why in reasons.items() if why]
    used = tuple(url for url, why in reasons.items() if why is None)
    if not used:
        refused = "; ".join(f"{url}: {why}" for url, why in reasons.items())
        raise ArgumentError(f"uri: none of its relays can be used: {refused}")
    return used


def _listed(asked: WalletAuth) -> str:
    return ", ".join(asked.relays)


def _why_not(app: App, url: str, named: tuple[str, ...] | None) -> str | None:
    """Return why a relay of an app is not used; None if it is."""
    if named is not None:
        return None if any(is_same_relay(url, other) for other in named) else "not in relays"
    if is_local(url):
        return "a local or private address; name it with relays= if it is yours"
    if is_onion(url) and app.settings.proxy is None:
        return "a .onion relay needs lightningd's option proxy"
    return None


def amount_in_words(msat: int) -> str:
    """Return an amount in satoshis if it is a whole number of them."""
    return f"{msat // 1000:,} sat" if msat % 1000 == 0 else f"{msat:,} msat"
