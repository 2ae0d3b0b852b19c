from dataclasses import replace

from nwc.nip47.encryption import Cipher
from nwc.nip47.rate_limit import RateLimit
from nwc.nostr.keys import KeyPair
from nwc.nostr.subscriptions import Recipient
from nwc.wallet.connections.record import Connection
from nwc.wallet.connections.registry import ConnectionRegistry, LiveConnection


def make_live(name: str, created_at: int = 0) -> LiveConnection:
    client, wallet = KeyPair.generate(), KeyPair.generate()
    record = Connection(name, client.public_key, ("wss://a.example",), created_at)
    return LiveConnection(record, wallet, Cipher(wallet, client.public_key), RateLimit(1, 1, 0))


def served(*lives: LiveConnection) -> ConnectionRegistry:
    connections = ConnectionRegistry()
    for live in lives:
        connections.add(live)
    return connections


def check(connections: ConnectionRegistry, *lives: LiveConnection) -> None:
    """Assert that exactly these are found, by every key."""
    assert connections.all() == list(lives)
    assert len(connections) == len(lives)
    for live in lives:
        assert connections.named(live.record.name) is live
        assert connections.of_client(live.record.client_pubkey) is live
        assert connections.with_id(live.record.id) is live
        assert connections.of_wallet(live.wallet_pubkey) is live
        assert live.client_pubkey == live.record.client_pubkey


def test_connections_are_found_by_every_key_and_listed_oldest_first() -> None:
    young, old = make_live("young", 9), make_live("old", 1)
    check(served(young, old), old, young)


def test_another_key_or_name_finds_nothing() -> None:
    live = make_live("a")
    connections = served(live)
    for key in ("", "A", live.record.client_pubkey.upper()):
        assert connections.named(key) is None
        assert connections.of_client(key) is None
        assert connections.with_id(key) is None
        assert connections.of_wallet(key) is None
    assert connections.with_id(live.record.client_pubkey) is None
    assert connections.of_wallet(live.record.client_pubkey) is None


def test_a_removed_connection_is_not_found() -> None:
    stays, goes = make_live("stays"), make_live("goes")
    connections = served(stays, goes)
    connections.remove(goes)
    check(connections, stays)
    assert connections.named("goes") is None
    assert connections.of_client(goes.record.client_pubkey) is None
    assert connections.with_id(goes.record.id) is None
    assert connections.of_wallet(goes.wallet_pubkey) is None


def test_a_changed_connection_is_found_by_its_new_name_only() -> None:
    live, other = make_live("old name"), make_live("other", 1)
    connections = served(live, other)
    live.record = replace(live.record, name="new name")
    check(connections, live, other)
    assert connections.named("old name") is None


def test_the_recipient_is_the_wallet_key_and_the_client() -> None:
    live = make_live("a")
    assert live.recipient == Recipient(live.keys, live.record.client_pubkey)
