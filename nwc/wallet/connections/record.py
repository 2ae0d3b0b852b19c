"""The stored record of a connection, and its place in the node's datastore.

    ["nwc", "connections", <client pubkey>]    the record, one JSON string
    ["nwc", "revoked", <connection id>]        a revoked connection; its payments' records stay

A record holds nothing secret: the client's secret is shown once and not stored, and the wallet key is
derived from the node's seed at each start of the plugin.
"""

from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum

from nwc.cln.node import Node
from nwc.nostr.keys import KeyPair, parse_public_key
from nwc.nostr.relay_url import parse_stored_relay_url
from nwc.wallet.connections.budget import Budget
from nwc.wallet.records import OPTIONAL, DamagedRecordError, Fields, RecordKind, read

_KEY = ("nwc", "connections")
_REVOKED = ("nwc", "revoked")


def connection_id_of(client_pubkey: str) -> str:
    """Return the id of a client key's connection: 16 hex digits."""
    return client_pubkey[:16]


class View(StrEnum):
    """Which invoices and payments a connection sees: its own, or all of the node."""

    OWN = "own"
    NODE = "node"


class Pairing(StrEnum):
    """By which way a connection was made: a URI that we made, or one that the app made (NWC-08)."""

    URI = "uri"
    WALLETAUTH = "walletauth"


@dataclass(frozen=True, slots=True)
class Connection:
    """One app's connection.

    Attributes:
        name: chosen by the owner, unique.
        client_pubkey: the app's key, 64 hex digits.
        relays: relay URLs in normal form, at least one.
        created_at: Unix seconds.
        methods: the NIP-47 methods that the owner allows; None allows all that the budget allows,
            without those that have to be named.
        expires_at: Unix seconds from which requests are refused, None for never.
        lud16: lightning address shown to the app, or None.
        view: which invoices and payments it sees.
        notifications: False if it is not notified of payments.
        budget: how much it may spend.
        pairing: by which way it was made.
        state: NWC-08's, for the info event until the app's first request; None otherwise.
        notification_types: the only types of notifications that it may get; None for all.

    """

    name: str
    client_pubkey: str
    relays: tuple[str, ...]
    created_at: int
    methods: tuple[str, ...] | None = None
    # Records from before budgets existed lack some of these; they mean the defaults.
    expires_at: int | None = field(default=None, metadata=OPTIONAL)
    lud16: str | None = field(default=None, metadata=OPTIONAL)
    view: View = field(default=View.OWN, metadata=OPTIONAL)
    notifications: bool = field(default=True, metadata=OPTIONAL)
    budget: Budget = field(default_factory=Budget, metadata=OPTIONAL)
    pairing: Pairing = Pairing.URI
    state: str | None = None
    notification_types: tuple[str, ...] | None = None

    @property
    def id(self) -> str:
        """The short form in labels and datastore keys: 16 hex digits."""
        return connection_id_of(self.client_pubkey)

    def has_expired(self, now: float) -> bool:
        """Return True if the connection has expired.

        Args:
            now: Unix seconds.

        """
        return self.expires_at is not None and now >= self.expires_at

    def to_json(self) -> str:
        """Return the record as stored."""
        return KIND.to_json(asdict(self))


def _from_1_to_2(fields: Fields) -> Fields:
    return {**fields, "pairing": "uri", "state": None, "notification_types": None}


KIND = RecordKind.of(Connection, upgrades=(_from_1_to_2,))


def parse_connection(client_pubkey: str, text: str) -> Connection:
    """Return the connection in a stored record.

    Args:
        client_pubkey: from the record's key in the datastore.
        text: the record.

    Raises:
        RecordError: the record is damaged, or a newer version of the plugin has written it. It stays as
            it is and is not served.

    """
    connection = read(Connection, KIND.parse(text))
    try:
        relays = tuple(parse_stored_relay_url(url) for url in connection.relays)
        client_key = parse_public_key(connection.client_pubkey)
    except ValueError:
        raise DamagedRecordError("the field relays or client_pubkey is invalid") from None
    # A key can be written in several ways; only this one is in events.
    if not client_pubkey == client_key == connection.client_pubkey:
        raise DamagedRecordError("its key in the datastore and its fields disagree")
    if not relays:
        raise DamagedRecordError("it has no relays")
    return replace(connection, relays=relays)


class ConnectionStore:
    """The records in the node's datastore. Every change is one write.

    Every method raises NodeError if lightningd refuses it or is unavailable.
    """

    def __init__(self, node: Node) -> None:
        self._node = node

    async def load(self) -> dict[str, str]:
        """Return all stored records, unparsed, by client key."""
        return await self._node.datastore_children(_KEY)

    async def create(self, connection: Connection) -> None:
        """Store a new connection. lightningd refuses if the client key already has one."""
        await self._node.datastore_create((*_KEY, connection.client_pubkey), connection.to_json())

    async def replace(self, connection: Connection) -> None:
        """Store the changed record of a connection."""
        await self._node.datastore_put((*_KEY, connection.client_pubkey), connection.to_json())

    async def delete(self, connection: Connection) -> None:
        """Delete the record of a connection."""
        await self._node.datastore_delete((*_KEY, connection.client_pubkey))

    async def note_revoked(self, connection: Connection) -> None:
        """Store the id of a revoked connection."""
        await self._node.datastore_put((*_REVOKED, connection.id), "1")

    async def revoked_ids(self) -> list[str]:
        """Return the ids of all revoked connections."""
        return await self._node.datastore_keys(_REVOKED)


async def wallet_keys(node: Node, client_pubkey: str) -> KeyPair:
    """Return the wallet key of a connection, derived from the node's seed. It is never stored or shown.

    Raises:
        NodeError: lightningd refuses or is unavailable.

    """
    return KeyPair.from_secret(await node.make_secret(f"nwc wallet key {client_pubkey}"))
