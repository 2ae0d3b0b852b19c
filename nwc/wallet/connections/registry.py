"""The connections being served, each with its keys and counters; they are found by key, id or name."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from nwc.names import same_form
from nwc.nip47.encryption import Cipher
from nwc.nip47.rate_limit import RateLimit
from nwc.nostr.event import Event
from nwc.nostr.keys import KeyPair
from nwc.nostr.subscriptions import Recipient
from nwc.wallet.connections.record import Connection, View


@dataclass(slots=True)
class LiveConnection:
    """A connection that is being served.

    Attributes:
        record: as stored; a change replaces it.
        keys: the wallet key of this connection.
        cipher: encrypts to the client and decrypts its requests.
        rate_limit: of the client's requests.
        info: the current info event, None until it is signed for the first relay.
        info_states: the state of the info event on each relay, as `nwc-list` shows it.
        is_published: set while at least one relay has accepted the current info event.
        last_used_at: Unix seconds of the last authentic request, None before the first.
        answered: requests answered, by method and outcome ("ok" or the error code).
        rate_limited: requests over the rate, which were answered RATE_LIMITED or, far over it, ignored.
            The signatures of the ignored ones were not checked, so others may have sent some of them.
        clock_ahead_s: how many seconds the client's clock was ahead of ours (negative: behind) when its
            last request was ignored for that; None if its last request was not.

    """

    record: Connection
    keys: KeyPair
    cipher: Cipher
    rate_limit: RateLimit
    info: Event | None = None
    info_states: dict[str, str] = field(default_factory=dict)
    is_published: asyncio.Event = field(default_factory=asyncio.Event)
    last_used_at: int | None = None
    answered: Counter[tuple[str, str]] = field(default_factory=Counter)
    rate_limited: int = 0
    clock_ahead_s: int | None = None

    @property
    def client_pubkey(self) -> str:
        """The key that may send requests, 64 hex digits."""
        return self.record.client_pubkey

    @property
    def recipient(self) -> Recipient:
        """The wallet key, and the client whose requests to it are read from the relays."""
        return Recipient(self.keys, self.record.client_pubkey)

    @property
    def wallet_pubkey(self) -> str:
        """The public half of the wallet key, 64 hex digits."""
        return self.keys.public_key


class ConnectionRegistry:
    """All connections being served. The methods that find one return None if there is none."""

    def __init__(self) -> None:
        self._by_wallet_pubkey: dict[str, LiveConnection] = {}
        self._by_client_pubkey: dict[str, LiveConnection] = {}
        self._by_id: dict[str, LiveConnection] = {}
        self._by_name: dict[str, LiveConnection] = {}
        self._viewing_node: dict[str, LiveConnection] = {}

    def __len__(self) -> int:
        return len(self._by_wallet_pubkey)

    def __iter__(self) -> Iterator[LiveConnection]:
        return iter(self._by_wallet_pubkey.values())

    def all(self) -> list[LiveConnection]:
        """Return every connection, oldest first."""
        return sorted(self, key=lambda live: live.record.created_at)

    def add(self, live: LiveConnection) -> None:
        """Add a connection, so that its requests are served."""
        self._by_wallet_pubkey[live.wallet_pubkey] = live
        self._by_client_pubkey[live.record.client_pubkey] = live
        self._by_id[live.record.id] = live
        self._index(live)

    def remove(self, live: LiveConnection) -> None:
        """Remove a connection, so that its requests are ignored."""
        del self._by_wallet_pubkey[live.wallet_pubkey]
        del self._by_client_pubkey[live.record.client_pubkey]
        del self._by_id[live.record.id]
        self._unindex(live)

    def update(self, live: LiveConnection, record: Connection) -> None:
        """Replace the record of a connection."""
        self._unindex(live)
        live.record = record
        self._index(live)

    def _index(self, live: LiveConnection) -> None:
        """Add a connection to the indexes of the fields that a change of its record can change."""
        self._by_name[live.record.name] = live
        if live.record.view is View.NODE:
            self._viewing_node[live.record.id] = live

    def _unindex(self, live: LiveConnection) -> None:
        del self._by_name[live.record.name]
        self._viewing_node.pop(live.record.id, None)

    def named(self, name: str) -> LiveConnection | None:
        """Return the connection with this name, in any Unicode normal form.

        Earlier versions stored names as they were typed, so two names may differ by their form alone.
        Then each is found only by its exact name.
        """
        if live := self._by_name.get(name):
            return live
        wanted = same_form(name)
        found = [live for live in self if same_form(live.record.name) == wanted]
        return found[0] if len(found) == 1 else None

    def of_client(self, client_pubkey: str) -> LiveConnection | None:
        """Return the connection of this client key."""
        return self._by_client_pubkey.get(client_pubkey)

    def record_of(self, client_pubkey: str) -> Connection | None:
        """Return the record of the connection of this client key."""
        live = self._by_client_pubkey.get(client_pubkey)
        return live.record if live else None

    def with_id(self, connection_id: str) -> LiveConnection | None:
        """Return the connection with this id (`Connection.id`)."""
        return self._by_id.get(connection_id)

    def observers(self, connection_id: str | None) -> list[LiveConnection]:
        """Return the connections that may see an invoice or payment.

        These are the connection that made it, and every connection that sees the whole node.

        Args:
            connection_id: of the connection that made it, None if no connection did.

        """
        observers = dict(self._viewing_node)
        if connection_id is not None and (live := self._by_id.get(connection_id)):
            observers[connection_id] = live
        return list(observers.values())

    def of_wallet(self, wallet_pubkey: str) -> LiveConnection | None:
        """Return the connection with this wallet key."""
        return self._by_wallet_pubkey.get(wallet_pubkey)
