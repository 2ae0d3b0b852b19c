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
from nwc.wallet.connections.record import Connection


@dataclass(slots=True)
class LiveConnection:
    """A connection that is being served.

    Attributes:
        record: as stored; a change replaces it, but never its client key.
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

    def remove(self, live: LiveConnection) -> None:
        """Remove a connection, so that its requests are ignored."""
        del self._by_wallet_pubkey[live.wallet_pubkey]
        del self._by_client_pubkey[live.record.client_pubkey]
        del self._by_id[live.record.id]

    def named(self, name: str) -> LiveConnection | None:
        """Return the connection with this name, in any Unicode normal form.

        Earlier versions stored names as they were typed, so two names may differ by their form alone.
        Then each is found only by its exact name.
        """
        exact = next((live for live in self if live.record.name == name), None)
        if exact is not None:
            return exact
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

    def of_wallet(self, wallet_pubkey: str) -> LiveConnection | None:
        """Return the connection with this wallet key."""
        return self._by_wallet_pubkey.get(wallet_pubkey)
