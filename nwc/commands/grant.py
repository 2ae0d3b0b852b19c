"""What an app gets that has made its own key (NWC-08): what it asks for, or less.

The owner's arguments make it less, or choose what the app has left open.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from nwc.commands import arguments
from nwc.commands.arguments import ArgumentError
from nwc.nip47.methods import METHODS
from nwc.nip47.notification import NOTIFICATION_TYPES
from nwc.nip47.walletauth import WalletAuth
from nwc.nostr.relay_url import is_local, is_onion, is_same_relay
from nwc.service import App
from nwc.wallet.connections.budget import Budget, BudgetKind, Renewal
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
    chosen = _methods(asked, given, not_granted, missing)
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
    return Grant(record, not_granted, missing)


def _methods(
    asked: WalletAuth, given: Given, not_granted: list[str], missing: dict[str, str]
) -> tuple[str, ...]:
    """Return the methods that the app asks for and the owner allows, whatever the budget is."""
    for name in asked.required:
        if name not in METHODS:
            raise ArgumentError(f"uri: the app needs {name}, which this plugin does not have")
    wanted = [*asked.required, *asked.optional]
    not_granted += [f"{name}: this plugin does not have it" for name in wanted if name not in METHODS]
    chosen = arguments.methods(given.get("methods"))
    if not wanted:
        return _freely_chosen(given, chosen, missing)
    if chosen is None:
        return _not_chosen(asked, not_granted, missing)
    for name in chosen:
        if name not in wanted:
            raise ArgumentError(f"methods: the app does not ask for {name}")
    for name in asked.required:
        if name not in chosen:
            raise ArgumentError(f"methods: the app needs {name}; it wants no connection without it")
    not_granted += [
        f"{name}: not in methods" for name in METHODS if name in wanted and name not in chosen
    ]
    return chosen


def _not_chosen(asked: WalletAuth, not_granted: list[str], missing: dict[str, str]) -> tuple[str, ...]:
    """Return the methods that an app gets if the owner names none."""
    wanted = [name for name in METHODS if name in (*asked.required, *asked.optional)]
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
    given: Given, chosen: tuple[str, ...] | None, missing: dict[str, str]
) -> tuple[str, ...]:
    """Return the methods that the owner chooses for an app that names none."""
    if chosen is not None:
        return chosen
    if given.get("methods") is None:
        missing["methods"] = "the app does not say which methods it needs; choose them"
        return ()
    spends = arguments.budget(given.get("budget"), None, None, Budget()).can_spend
    offered = (method for method in METHODS.values() if not method.only_by_name)
    return tuple(method.name for method in offered if spends or not method.spends)


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
            return arguments.expires_at(latest)
        except ArgumentError as error:
            raise ArgumentError(f"uri: {error}") from None
    expires_at = arguments.expires_at(chosen)
    if latest is not None and (expires_at is None or expires_at > latest):
        raise ArgumentError(f"expires: must be at most {latest} in Unix seconds, as the app asks")
    return expires_at


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
