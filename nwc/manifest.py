"""What the plugin declares to lightningd: its options, commands and subscriptions.

lightningd does not start if its configuration has an option that no plugin declares. So `getmanifest`
has the same answer whether the plugin can run or not, and this module needs no packages. It is written
for Python 3.6, the `python3` of the oldest distribution that is still supported (RHEL 8).
"""

from typing import Any, NamedTuple


class Option(NamedTuple):
    """An option of lightningd's configuration; `type` is string, int or bool."""

    name: str
    type: str
    description: str
    default: Any = None
    multi: bool = False


class Command(NamedTuple):
    """An RPC command; `parameters` are those of its function, the optional ones in brackets."""

    name: str
    parameters: str
    description: str

    @property
    def usage(self) -> str:
        """The parameters, then the description, as lightningd's help shows them."""
        return (self.parameters + " \n " + self.description).lstrip(" ")


RELAY = Option(
    "nwc-relay",
    "string",
    "Nostr relay for new connections, wss://host[:port]; can be given several times",
    multi=True,
)
INVOICE_EXPIRY = Option(
    "nwc-invoice-expiry", "int", "Seconds until an invoice expires, unless the app says otherwise", 86400
)
MAX_REQUEST_AGE = Option(
    "nwc-max-request-age", "int", "Ignore requests older than this many seconds", 120
)
RATE_LIMIT = Option(
    "nwc-rate-limit", "int", "Requests a second that a connection may make in the long run", 20
)
NOTIFICATIONS = Option(
    "nwc-notifications", "bool", "Notify apps of payments they receive and make", True
)
PAY_COMMAND = Option(
    "nwc-pay-command",
    "string",
    "Which of lightningd's commands pays: auto, pay or xpay; auto takes pay if lightningd has it",
    "auto",
)
OPTIONS = (RELAY, INVOICE_EXPIRY, MAX_REQUEST_AGE, RATE_LIMIT, PAY_COMMAND, NOTIFICATIONS)

COMMANDS = (
    Command(
        "nwc-connect",
        "[name] [budget] [renewal] [view] [methods] [expires] [relays] [pubkey] [lud16] [qr] "
        "[notifications] [max_payment] [uri] [confirm]",
        "Create a connection for an app and show its URI, only this once. "
        "budget: what it may spend: nothing, an amount like 50000sat (a number without a unit is msat), "
        "received (what it has received) or unlimited. "
        "renewal: never, daily, weekly, monthly or yearly. max_payment: the largest single payment. "
        "methods: all, or the methods it may call; all is without sign_message, which signs with the "
        "node's key. expires: never, 30d, 12h or a date. "
        "relays: used instead of nwc-relay. pubkey: the public key of an app that keeps its own key. "
        "lud16: a lightning address for the app to show. qr=true: show the URI as a QR code. "
        "view=node: it sees everything on the node. notifications=false: no notifications of payments. "
        "uri: the URI of an app that makes its own key (nostr+walletauth): show what it asks for, and "
        "change nothing; with confirm=true the app gets it. The other parameters make it less.",
    ),
    Command("nwc-list", "[name]", "Show all connections, or the one with this name."),
    Command(
        "nwc-update",
        "name [new_name] [methods] [expires] [relays] [view] [notifications] [budget] [renewal] "
        "[max_payment] [resume]",
        "Change a connection's name, methods, expires, relays, view, notifications, budget, renewal or "
        "max_payment; values that are not given stay. methods=all, expires=never, budget=nothing and "
        "max_payment=none remove the value that was set. resume=true resumes suspended payments.",
    ),
    Command(
        "nwc-revoke",
        "name",
        "Revoke a connection at once; its app can do nothing more. "
        "Pending payments still complete or fail; open hold invoices are cancelled.",
    ),
    Command(
        "nwc-payments",
        "name [limit] [offset]",
        "Show what a connection has paid and received, newest first. limit: how many, at most 100; "
        "20 by default. offset: how many newer ones to skip.",
    ),
    Command(
        "nwc-status",
        "",
        "Show the relays, the use of each connection, and the requests answered and ignored.",
    ),
    Command(
        "nwc-export",
        "",
        "Show all connections as a list for nwc-import, to keep with the node's backup. It holds no "
        "secrets, and not what was spent of the budgets.",
    ),
    Command(
        "nwc-import",
        "connections",
        "Create the connections of a list of nwc-export that are missing: the URIs in the apps work "
        "again. Their budgets start from zero. Existing connections are not changed.",
    ),
    Command(
        "nwc-forget",
        "[confirm]",
        "Show what the plugin stores in this node, and change nothing. With confirm=true: end all "
        "connections and delete everything that the plugin stores, before you remove the plugin.",
    ),
)

SUBSCRIPTIONS = ("block_added", "shutdown")


def manifest() -> "dict[str, Any]":
    """Return the answer to `getmanifest` of a plugin that cannot run."""
    return {
        "options": [_declared(option) for option in OPTIONS],
        "rpcmethods": [
            {"name": command.name, "usage": command.usage, "description": command.description}
            for command in COMMANDS
        ],
        "subscriptions": list(SUBSCRIPTIONS),
        "hooks": [],
        "dynamic": True,
        "nonnumericids": True,
    }


def _declared(option: Option) -> "dict[str, Any]":
    # A default of null would be a default for lightningd.
    return {name: value for name, value in option._asdict().items() if value is not None}
