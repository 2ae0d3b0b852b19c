"""The nwc-* commands: check the owner's arguments, act, return what lightning-cli shows.

Each command is a coroutine that runs in the event loop of the service.
"""

from nwc.commands.arguments import ArgumentError
from nwc.commands.backup import export, import_
from nwc.commands.connections import connect, list_, revoke, update
from nwc.commands.forget import forget
from nwc.commands.payments import payments
from nwc.commands.status import status

__all__ = [
    "ArgumentError",
    "connect",
    "export",
    "forget",
    "import_",
    "list_",
    "payments",
    "revoke",
    "status",
    "update",
]
