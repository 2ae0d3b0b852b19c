"""The nwc-* commands: check a person's words, act on the connections, show the result.

Each command is a coroutine that runs in the service's loop.
"""

from nwc.commands.arguments import ArgumentError
from nwc.commands.backup import export, import_
from nwc.commands.connections import connect, list_, revoke, update
from nwc.commands.forget import forget
from nwc.commands.status import status

__all__ = [
    "ArgumentError",
    "connect",
    "export",
    "forget",
    "import_",
    "list_",
    "revoke",
    "status",
    "update",
]
