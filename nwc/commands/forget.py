"""nwc-forget: shows what the plugin keeps in the node, and deletes it before the plugin is removed."""

from typing import Any

from nwc import origin
from nwc.commands import arguments
from nwc.service import App
from nwc.wallet.stored_data import Deleted

_LOST = (
    "every connection ends, and its URI stops working. Budgets, what was spent of them, and the records "
    "of payments and invoices, with the metadata of the apps, are deleted. Invoices, payments and money "
    "of the node stay"
)
_KEEP_FIRST = (
    "nothing has been changed. To keep a list of the connections: lightning-cli nwc-export > nwc.json. "
    "To end them and delete everything: lightning-cli -k nwc-forget confirm=true"
)
_NOTHING_STORED = "the plugin stores nothing in this node"
_NO_MORE = (
    "the plugin stores nothing in this node any more. To remove the plugin, take its nwc- options out "
    "of lightningd's configuration"
)
_BY_RECKLESS = f"{_NO_MORE}, then run: reckless uninstall nwc"
_BY_HAND = f"{_NO_MORE}, and its plugin= line, then stop it: lightning-cli plugin stop with its path"
_GO_ON = (
    "all connections have ended, but lightningd has not deleted everything yet. Give the same command "
    "again: it goes on with the rest. A restart before that can bring connections back"
)

Json = dict[str, Any]


async def forget(core: App, confirm: object = None) -> Json:
    """Show what is stored; with `confirm`, end all connections and delete it.

    Raises:
        ArgumentError, ManagementError: for the owner to mend.
        NodeError: lightningd is away.

    """
    if not arguments.flag("confirm", confirm):
        return await _describe(core)
    ended = len(core.connections)
    deleted = await core.forget()
    return {
        "forgotten": deleted.is_complete,
        "connections_ended": ended,
        "records_deleted": deleted.records,
        **_unlisted(deleted),
        "next": _how_to_remove_it() if deleted.is_complete else _GO_ON,
    }


def _how_to_remove_it() -> str:
    return _BY_RECKLESS if origin.find_origin().kind == origin.RECKLESS else _BY_HAND


async def _describe(core: App) -> Json:
    counted = await core.stored.count()
    unserved = core.manager.unserved_keys()
    described: Json = {
        "forgotten": False,
        "connections": [live.record.name for live in core.connections.all()],
        **({"connections_not_served": unserved} if unserved else {}),
        "records": counted.records,
        "bytes": counted.size_bytes,
        "payments_pending": core.payments.count_in_flight(),
        "lost": _LOST,
        "next": _KEEP_FIRST,
    }
    if not counted.is_complete:
        described["warning"] = "lightningd could not list everything, or not in time: there is more"
    elif not counted.records:
        described |= {"lost": "nothing", "next": _NOTHING_STORED}
    return described


def _unlisted(deleted: Deleted) -> Json:
    """Name what a person has to delete, since lightningd's answer is too long for the plugin."""
    if not deleted.unlisted:
        return {}
    return {"could_not_be_listed": [list(key) for key in deleted.unlisted]}
