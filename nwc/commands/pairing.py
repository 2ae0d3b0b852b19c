"""nwc-connect with `uri`: an app that has made its own key asks for a connection (NWC-08).

Without `confirm` nothing is changed: the owner sees what the app would get (grant.py), and the command
that gives it.
"""

import json
import re
import shlex
from datetime import UTC, datetime
from typing import Any

from nwc.commands import arguments
from nwc.commands.arguments import ArgumentError
from nwc.commands.grant import EACH, Given, Grant, amount_in_words, granted
from nwc.commands.shown import (
    describe,
    in_simple_format,
    joined,
    look_alike_warnings,
    wait_for_relay,
)
from nwc.names import same_form
from nwc.nip47.walletauth import WalletAuth, normal_form, parse_wallet_auth
from nwc.nostr.messages import printable
from nwc.service import App
from nwc.wallet.connections.budget import Budget, BudgetKind
from nwc.wallet.connections.permissions import sent_notifications
from nwc.wallet.connections.record import View, connection_id_of
from nwc.wallet.connections.registry import LiveConnection

Json = dict[str, Any]

METHODS_IN_WORDS = {
    "get_info": "see the name, the key and the network of the node",
    "get_balance": "see how much it can spend",
    "get_budget": "see its budget",
    "make_invoice": "make invoices",
    "receive": "make payment URIs with an invoice",
    "make_hold_invoice": "make invoices whose payments wait until it takes or cancels them",
    "settle_hold_invoice": "take the payments of its hold invoices",
    "cancel_hold_invoice": "give back the payments of its hold invoices",
    "lookup_invoice": "look up its invoices and payments",
    "list_transactions": "list its invoices and payments",
    "pay_invoice": "PAY invoices",
    "pay_keysend": "PAY other nodes without an invoice",
    "pay": "PAY invoices, offers and payment URIs",
    "sign_message": "SIGN any text with the key of the node",
}
_VIEW_IN_WORDS = {
    View.OWN: "own: the invoices and payments of this connection",
    View.NODE: "node: ALL invoices and payments of the node, and its balance",
}
# Names that lightning-cli takes for a parameter, an option or JSON, so that the owner could not simply
# type them to revoke the connection; and those that it prints in another way.
_MISREAD_NAME = re.compile(r"""[-\[{"].*|.*[=\\].*|true|false|null|[0-9]+\.[0-9]+""")


async def pair(app: App, uri: object, confirm: object, given: Given) -> Json:
    """Show what an app asks for in its URI, or with `confirm` make the connection.

    Args:
        app: the service.
        uri: `nostr+walletauth://…`, unchecked.
        confirm: the argument of nwc-connect.
        given: the other arguments of nwc-connect, unchecked; None is left open.

    Raises:
        ArgumentError, ManagementError: the owner or the app has to correct something; nothing has
            been changed.
        NodeError: lightningd is unavailable.

    """
    is_confirmed = arguments.flag("confirm", confirm)
    asked = _parse(uri)
    _refuse_what_a_key_excludes(given)
    live = app.connections.of_client(asked.client_pubkey)
    if live is not None:
        return await _shown_again(app, live, asked, given)
    if connection_id_of(asked.client_pubkey) in await app.manager.revoked_ids():
        raise ArgumentError(
            "uri: the connection of this key was revoked. Have the app make a new key; or, to give this "
            f"key its access back, use pubkey={asked.client_pubkey} instead of uri"
        )
    grant = granted(app, asked, _name(asked, given), given)
    warnings = [
        *arguments.bare_number_warnings({key: given.get(key) for key in ("budget", "max_payment")}),
        *look_alike_warnings(
            app, grant.record.name, "new_name changes it" if is_confirmed else "name= gives another"
        ),
    ]
    if not is_confirmed:
        shown = {**_preview(app, grant, asked), **joined(warnings)}
        return in_simple_format({**shown, **_next_step(str(uri), grant, given)})
    for argument, why in grant.missing.items():
        raise ArgumentError(f"{argument}: {why}")
    live = await app.connect(grant.record)
    await wait_for_relay(live)
    shown = {"name": grant.record.name, **await describe(app, live, warnings)}
    return {**shown, **_rest(grant, asked)}


def _parse(uri: object) -> WalletAuth:
    if not isinstance(uri, str):
        raise ArgumentError("uri: must be nostr+walletauth://…, as an app shows it")
    try:
        return parse_wallet_auth(uri)
    except ValueError as error:
        raise ArgumentError(f"uri: {error}") from None


def _refuse_what_a_key_excludes(given: Given) -> None:
    if given.get("pubkey") is not None:
        raise ArgumentError("pubkey: must not be given with uri, which has the key of the app")
    if arguments.flag("qr", given.get("qr")):
        raise ArgumentError("qr: must not be given with uri; the app needs no other URI")


def _name(asked: WalletAuth, given: Given) -> str | None:
    """Return the name that the owner gives, else that of the app; None if there is neither."""
    if given.get("name") is not None:
        return arguments.new_name("name", given["name"])
    if asked.name is None:
        return None
    own = "give a name of your own with name="
    try:
        name = arguments.new_name("uri: name", asked.name)
    except ArgumentError as error:
        raise ArgumentError(f"{error}; {own}") from None
    if _MISREAD_NAME.fullmatch(name):
        raise ArgumentError(f"uri: name: lightning-cli would misread {name!r}; {own}")
    return name


async def _shown_again(app: App, live: LiveConnection, asked: WalletAuth, given: Given) -> Json:
    """Return the connection that the key has already."""
    record, name = live.record, asked.name
    if given.get("name") is not None:
        name = arguments.typed_name(given["name"])
    if name is not None and same_form(name) != same_form(record.name):
        raise ArgumentError(
            f"uri: the key of this app has a connection already, with the name {record.name!r}; nothing "
            "was changed; see nwc-list, nwc-update and nwc-revoke"
        )
    note = "the key of this app has this connection already; nothing was changed"
    return {"name": record.name, "note": note, **await describe(app, live)}


def _preview(app: App, grant: Grant, asked: WalletAuth) -> Json:
    record = grant.record
    methods = grant.record.methods or ()
    has_hold = app.hold_invoices.plugin.is_available
    types = sent_notifications(record, app.settings.notifications, has_hold=has_hold)
    return {
        "note": "nothing is changed yet; this is what the app would get",
        "name": record.name,
        "client_pubkey": record.client_pubkey,
        **({"app": _unchecked_name(asked.name)} if asked.name else {}),
        "methods": [f"{name}: {METHODS_IN_WORDS.get(name, name)}" for name in methods] or ["none"],
        "budget": _budget_in_words(record.budget),
        "view": _VIEW_IN_WORDS[record.view],
        "notifications": list(types) or ["none"],
        "expires": _time_in_words(record.expires_at),
        "relays": list(record.relays),
        **_rest(grant, asked),
    }


def _unchecked_name(name: str) -> str:
    # The name is at the end, where it can pretend to be nothing else.
    return f"nobody has checked who it is; it calls itself: {printable(name)}"


def _rest(grant: Grant, asked: WalletAuth) -> Json:
    shown: Json = {}
    if grant.not_granted:
        shown["not_granted"] = grant.not_granted
    if asked.return_to:
        shown["return_to"] = asked.return_to
    return shown


def _next_step(uri: str, grant: Grant, given: Given) -> Json:
    """Return the command that makes the connection, with `…` for what the owner has to choose."""
    chosen = {name: value for name, value in given.items() if value is not None}
    parameters = {
        "uri": normal_form(uri),
        **chosen,
        **dict.fromkeys(grant.missing, "…"),
        "confirm": "true",
    }
    written = (f"{name}={_written(value)}" for name, value in parameters.items())
    command = " ".join(["lightning-cli -k nwc-connect", *map(shlex.quote, written)])
    missing = [f"{name}: {why}" for name, why in grant.missing.items()]
    return {**({"missing": missing} if missing else {}), "command": command}


def _written(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _budget_in_words(budget: Budget) -> str:
    amount = f"{amount_in_words(budget.amount_msat)} {EACH[budget.renewal]}"
    words = {
        BudgetKind.NOTHING: "nothing: it cannot pay",
        BudgetKind.AMOUNT: f"{amount}, fees included",
        BudgetKind.RECEIVED: "what it receives through this connection, less what it spends",
        BudgetKind.UNLIMITED: "UNLIMITED: all that the node can send",
    }[budget.kind]
    if budget.max_payment_msat is None:
        return words
    return f"{words}; at most {amount_in_words(budget.max_payment_msat)} in one payment"


def _time_in_words(at: int | None) -> str:
    return "never" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
