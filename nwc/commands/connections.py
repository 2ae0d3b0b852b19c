"""nwc-connect, nwc-list, nwc-update and nwc-revoke."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from nwc.commands import arguments
from nwc.commands.pairing import pair
from nwc.commands.shown import (
    describe,
    joined,
    look_alike_warnings,
    still_open_holds,
    unserved_warnings,
    wait_for_relay,
    with_qr,
)
from nwc.nip47.uri import connection_uri
from nwc.nip47.walletauth import is_wallet_auth
from nwc.nostr.keys import KeyPair
from nwc.service import App
from nwc.wallet.connections.record import Connection

Json = dict[str, Any]


async def connect(
    app: App,
    name: object = None,
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
    uri: object = None,
    confirm: object = None,
) -> Json:
    """Create a connection and return its URI, which is shown only this once; or pair with an app's URI.

    Raises:
        ArgumentError, ManagementError: the owner has to correct something.
        NodeError: lightningd is unavailable.

    """
    given = {
        "name": name,
        "budget": budget,
        "renewal": renewal,
        "max_payment": max_payment,
        "view": view,
        "methods": methods,
        "relays": relays,
        "lud16": lud16,
        "notifications": notifications,
    }
    if uri is not None:
        return await pair(app, uri, confirm, {**given, "expires": expires, "pubkey": pubkey, "qr": qr})
    _refuse_what_needs_a_uri(name, confirm)
    wants_qr = arguments.flag("qr", qr)
    client = KeyPair.generate() if pubkey is None else None
    client_pubkey = client.public_key if client else arguments.pubkey(pubkey)
    record = arguments.connection(app, client_pubkey, arguments.expires_at(expires), given)
    arguments.check_methods_have_budget(record)
    live = await app.connect(record)
    warnings = [
        *arguments.bare_number_warnings({"budget": budget, "max_payment": max_payment}),
        *look_alike_warnings(app, live.record.name),
    ]
    await wait_for_relay(live)
    secret = client.secret_hex() if client else None
    made = connection_uri(live.wallet_pubkey, record.relays, secret, record.lud16)
    shown = {"name": record.name, "uri": made, **await describe(app, live, warnings)}
    return with_qr(shown, made) if wants_qr else shown


def _refuse_what_needs_a_uri(name: object, confirm: object) -> None:
    if name is None:
        raise arguments.ArgumentError("name: is missing; give a name, or the URI of an app as uri=")
    if isinstance(name, str) and is_wallet_auth(name):
        raise arguments.ArgumentError("name: this is the URI of an app; give it as uri=")
    if confirm is not None:
        raise arguments.ArgumentError("confirm: is only for the URI of an app, which uri= gives")


async def list_(app: App, name: object = None) -> Json:
    """Return one connection, or all of them."""
    chosen = app.connections.all() if name is None else [app.manager.find(arguments.typed_name(name))]
    shown = [{"name": live.record.name, **await describe(app, live)} for live in chosen]
    return {"connections": shown, **joined(unserved_warnings(app) if name is None else [])}


async def update(
    app: App,
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
    """Change a connection. Values that are not given stay.

    Raises:
        ArgumentError, ManagementError: the owner has to correct something.
        NodeError: lightningd is unavailable.

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
        raise arguments.ArgumentError(f"nothing to change: give new_name, {', '.join(first)} or {last}")
    arguments.refuse_empty(given)
    resumes = arguments.flag("resume", resume)
    checks: dict[str, tuple[object, Callable[[Any], Any]]] = {
        "name": (new_name, partial(arguments.new_name, "new_name")),
        "methods": (methods, arguments.methods),
        "expires_at": (expires, arguments.expires_at),
        "relays": (relays, lambda value: arguments.relays(value, app)),
        "view": (view, arguments.view),
        "notifications": (notifications, partial(arguments.flag, "notifications")),
    }
    changes: Json = {
        field: check(value) for field, (value, check) in checks.items() if value is not None
    }

    if notifications is not None:
        # What an app once asked for does not limit what its owner decides now.
        changes["notification_types"] = None

    def changed(old: Connection) -> Connection:
        # `old` is the record under the manager's lock: values that are not given stay as they are then.
        new = replace(old, budget=arguments.budget(budget, renewal, max_payment, old.budget), **changes)
        if methods is not None:
            arguments.check_methods_have_budget(new)
        return new

    live = await app.manager.change(arguments.typed_name(name), changed)
    if resumes:
        await app.payments.breaker.resume(live.record.client_pubkey)
    warnings = arguments.bare_number_warnings({"budget": budget, "max_payment": max_payment})
    if new_name is not None:
        warnings += look_alike_warnings(app, live.record.name)
    await wait_for_relay(live)
    return {"name": live.record.name, **await describe(app, live, warnings)}


async def revoke(app: App, name: object) -> Json:
    """Revoke a connection, and cancel its open hold invoices."""
    live = await app.manager.revoke(arguments.typed_name(name))
    cancelled, still_open = await app.hold_invoices.cancel_open(live.record.id)
    holds = {"hold_invoices_cancelled": cancelled} if cancelled or still_open else {}
    warnings = [still_open_holds(still_open)] if still_open else []
    return {
        "name": live.record.name,
        "revoked": True,
        "client_pubkey": live.record.client_pubkey,
        "wallet_pubkey": live.wallet_pubkey,
        **holds,
        **joined(warnings),
    }
