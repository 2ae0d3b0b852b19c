"""The connections being served: each record with its keys, and finding one by key or name."""

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
    """A connection while the plugin runs.

    Attributes:
        record: what is stored; replaced as a whole when it changes.
        keys: the wallet key of this connection.
        cipher: encrypts to the client.
        rate_limit: how fast it may ask.
        info: the info event in force, None until it is signed for the first relay.
        info_states: for each relay what became of the info event there.
        is_published: set while a relay has taken the info event in force.
        last_used_at: Unix seconds of the last authentic request, None before the first.
        answered: requests answered, by method and outcome ("ok" or the error code).
        clock_ahead_s: how far the client's clock is ahead of ours, so far that its last request was
            ignored; None while they agree.
        rate_limited: requests that were too fast, answered RATE_LIMITED or, far over the rate, ignored.
            The signature of the latter was not checked: others may have sent some of them.

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
    """All connections being served, by wallet key, client key, id and name."""

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
        """Serve a connection from now on."""
        self._by_wallet_pubkey[live.wallet_pubkey] = live
        self._by_client_pubkey[live.record.client_pubkey] = live
        self._by_id[live.record.id] = live
        self._take_up(live)

    def remove(self, live: LiveConnection) -> None:
        """Serve a connection no more."""
        del self._by_wallet_pubkey[live.wallet_pubkey]
        del self._by_client_pubkey[live.record.client_pubkey]
        del self._by_id[live.record.id]
        self._leave_out(live)

    def update(self, live: LiveConnection, record: Connection) -> None:
        """Put a changed record in the place of the old one."""
        self._leave_out(live)
        live.record = record
        self._take_up(live)

    def _take_up(self, live: LiveConnection) -> None:
        """Make it found by what of its record can change."""
        self._by_name[live.record.name] = live
        if live.record.view is View.NODE:
            self._viewing_node[live.record.id] = live

    def _leave_out(self, live: LiveConnection) -> None:
        del self._by_name[live.record.name]
        self._viewing_node.pop(live.record.id, None)

    def named(self, name: str) -> LiveConnection | None:
        """Return the connection with this name, in whatever normal form it was stored or is typed.

        Earlier versions kept names as they were typed, so two may differ by their form alone. Then only
        the exact name finds one of them.
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
        """Return the connection with this id, as it stands in labels."""
        return self._by_id.get(connection_id)

    def observers(self, connection_id: str | None) -> list[LiveConnection]:
        """Return who sees what was made through a connection: itself, and all that see the whole node.

        Args:
            connection_id: None for what was made otherwise.

        """
        observers = dict(self._viewing_node)
        if connection_id is not None and (live := self._by_id.get(connection_id)):
            observers[connection_id] = live
        return list(observers.values())

    def of_wallet(self, wallet_pubkey: str) -> LiveConnection | None:
        """Return the connection with this wallet key."""
        return self._by_wallet_pubkey.get(wallet_pubkey)
