"""nwc-forget: show what the plugin stores in the node, and delete it before the plugin is removed."""

from typing import Any

from nwc import origin
from nwc.commands import arguments
from nwc.service import App
from nwc.wallet.stored_data import Deleted

_LOST = (
    "every connection ends, and its URI stops working. Budgets, what was spent of them, and the records "
    "of payments and invoices with the apps' metadata are deleted. The node keeps its invoices, "
    "payments and money"
)
_KEEP_FIRST = (
    "nothing has been changed. To keep a list of the connections: lightning-cli nwc-export > nwc.json. "
    "To end them and delete everything: lightning-cli -k nwc-forget confirm=true"
)
_NOTHING_STORED = "the plugin stores nothing in this node"
_NO_MORE = (
    "the plugin stores nothing in this node any more. To remove the plugin, delete its nwc- options "
    "from lightningd's configuration"
)
_BY_RECKLESS = f"{_NO_MORE}, then run: reckless uninstall nwc"
_BY_HAND = f"{_NO_MORE}, and its plugin= line, then stop it: lightning-cli plugin stop with its path"
_GO_ON = (
    "all connections have ended, but lightningd has not deleted everything yet. Give the same command "
    "again for the rest. A restart before that can bring connections back"
)

Json = dict[str, Any]


async def forget(app: App, confirm: object = None) -> Json:
    """Return what is stored; with `confirm`, end all connections and delete it.

    Raises:
        ArgumentError, ManagementError: the owner has to correct something.
        NodeError: lightningd is unavailable.

    """
    if not arguments.flag("confirm", confirm):
        return await _describe(app)
    ended = len(app.connections)
    done = _BY_RECKLESS if origin.find_origin().kind == origin.RECKLESS else _BY_HAND
    deleted = await app.forget()
    return {
        "forgotten": deleted.is_complete,
        "connections_ended": ended,
        "records_deleted": deleted.records,
        **_unlisted(deleted),
        "next": done if deleted.is_complete else _GO_ON,
    }


async def _describe(app: App) -> Json:
    counted = await app.stored.count()
    unserved = app.manager.unserved_keys()
    described: Json = {
        "forgotten": False,
        "connections": [live.record.name for live in app.connections.all()],
        **({"connections_not_served": unserved} if unserved else {}),
        "records": counted.records,
        "bytes": counted.size_bytes,
        "pending_payments": app.payments.count_in_flight(),
        "lost": _LOST,
        "next": _KEEP_FIRST,
    }
    if not counted.is_complete:
        described["warning"] = "lightningd could not list everything, or not in time: there is more"
    elif not counted.records:
        described |= {"lost": "nothing", "next": _NOTHING_STORED}
    return described


def _unlisted(deleted: Deleted) -> Json:
    """Return the keys that the owner has to delete: lightningd's answer is too long for the plugin."""
    if not deleted.unlisted:
        return {}
    return {"could_not_be_listed": [list(key) for key in deleted.unlisted]}
