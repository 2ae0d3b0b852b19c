"""Connections: the record of each app that may ask, and where the records are kept.

A record lives in the node's datastore at ["nwc", "connections", <client pubkey>] as one JSON string.
It holds nothing secret: the client's secret is given out once and forgotten, and the wallet key is
derived from the node's seed whenever the plugin starts.

The id of a connection that was revoked stands at ["nwc", "revoked", <connection id>], since the records
of its payments and invoices are kept.
"""

from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum

from nwc.cln.node import Node
from nwc.errors import NwcError
from nwc.nostr.keys import KeyPair, parse_public_key
from nwc.nostr.relay_url import parse_stored_relay_url
from nwc.wallet.connections.budget import Budget
from nwc.wallet.records import OPTIONAL, RecordError, RecordKind, read

_KEY = ("nwc", "connections")
_REVOKED = ("nwc", "revoked")


def connection_id_of(client_pubkey: str) -> str:
    """Return the id of a client key's connection: 16 hex digits."""
    return client_pubkey[:16]


class View(StrEnum):
    """What a connection sees: what was made through it, or everything on the node."""

    OWN = "own"
    NODE = "node"


class ConnectionRecordError(NwcError, ValueError):
    """A stored record this version cannot read; it is left alone and not served."""


@dataclass(frozen=True, slots=True)
class Connection:
    """One app's connection.

    Attributes:
        name: chosen by the owner, unique.
        client_pubkey: the app's key, 64 hex digits.
        relays: relay URLs in normal form, at least one.
        created_at: Unix seconds.
        methods: NIP-47 methods the owner allows; None allows all the connection's budget does.
        expires_at: Unix seconds from when on nothing is served; None is never.
        lud16: lightning address shown to the app, or None.
        view: what it sees.
        notifications: whether it is told of payments.
        budget: what it may spend.

    """

    name: str
    client_pubkey: str
    relays: tuple[str, ...]
    created_at: int
    methods: tuple[str, ...] | None = None
    # Records of before there were budgets lack these; the defaults are what they meant.
    expires_at: int | None = field(default=None, metadata=OPTIONAL)
    lud16: str | None = field(default=None, metadata=OPTIONAL)
    view: View = field(default=View.OWN, metadata=OPTIONAL)
    notifications: bool = field(default=True, metadata=OPTIONAL)
    budget: Budget = field(default_factory=Budget, metadata=OPTIONAL)

    @property
    def id(self) -> str:
        """The short form that stands in invoice labels: 16 hex digits."""
        return connection_id_of(self.client_pubkey)

    def has_expired(self, now: float) -> bool:
        """Tell whether the connection's time is over."""
        return self.expires_at is not None and now >= self.expires_at

    def to_json(self) -> str:
        """Return the record as stored."""
        return KIND.to_json(asdict(self))


KIND = RecordKind.of(Connection)


def parse_connection(client_pubkey: str, text: str) -> Connection:
    """Read a stored record.

    Raises:
        ConnectionRecordError: written by a newer version of the plugin, or damaged.

    """
    try:
        connection = read(Connection, KIND.parse(text))
    except RecordError as error:
        raise ConnectionRecordError(str(error)) from None
    try:
        relays = tuple(parse_stored_relay_url(url) for url in connection.relays)
        client_key = parse_public_key(connection.client_pubkey)
    except ValueError as error:
        raise ConnectionRecordError(f"damaged: {type(error).__name__}") from None
    # Of the several ways to write a key, the one that stands in events.
    if not client_pubkey == client_key == connection.client_pubkey or not relays:
        raise ConnectionRecordError("key and record do not agree")
    return replace(connection, relays=relays)


class ConnectionStore:
    """The records in the node's datastore. Every change is one write.

    Every method raises NodeError when lightningd refuses or is away.
    """

    def __init__(self, node: Node) -> None:
        self._node = node

    async def load(self) -> dict[str, str]:
        """Return all stored records, unread, by client pubkey."""
        return await self._node.datastore_children(_KEY)

    async def create(self, connection: Connection) -> None:
        """Store a new connection; the client key must not have one."""
        await self._node.datastore_create((*_KEY, connection.client_pubkey), connection.to_json())

    async def replace(self, connection: Connection) -> None:
        """Store a changed connection."""
        await self._node.datastore_put((*_KEY, connection.client_pubkey), connection.to_json())

    async def delete(self, connection: Connection) -> None:
        """Forget a connection."""
        await self._node.datastore_delete((*_KEY, connection.client_pubkey))

    async def note_revoked(self, connection: Connection) -> None:
        """Keep the id of a connection that was deleted."""
        await self._node.datastore_put((*_REVOKED, connection.id), "1")

    async def revoked_ids(self) -> list[str]:
        """Return the ids of all connections that were revoked."""
        return await self._node.datastore_keys(_REVOKED)


async def wallet_keys(node: Node, client_pubkey: str) -> KeyPair:
    """Derive the wallet service key of a connection from the node's seed. Never stored or shown."""
    return KeyPair.from_secret(await node.make_secret(f"nwc wallet key {client_pubkey}"))
