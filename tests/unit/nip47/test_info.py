import nostr_sdk
import pytest

from nwc.nip47.info import info_event, withdrawal_events
from nwc.nip47.kinds import KIND_INFO
from nwc.nostr.event import Event, verify_event
from tests.unit.helpers import CLIENT, NOW, WALLET


def make(notifications: tuple[str, ...] = (), extensions: tuple[str, ...] = ("06",)) -> Event:
    return info_event(
        WALLET,
        CLIENT.public_key,
        methods=("get_info", "make_invoice"),
        notifications=notifications,
        extensions=extensions,
        created_at=NOW,
    )


def test_an_info_event_lists_methods_encryption_and_extensions() -> None:
    event = make()
    verify_event(event)
    assert (event.kind, event.pubkey, event.created_at) == (13194, WALLET.public_key, NOW)
    assert event.content == "get_info make_invoice"
    assert event.tag("encryption") == "nip44_v2 nip04"
    assert event.tag("p") == CLIENT.public_key
    assert event.tag("extensions") == "06"
    assert event.tags_named("notifications") == ()


def test_notifications_are_listed_in_content_and_tag() -> None:
    event = make(("payment_received", "payment_sent"))
    assert event.content == "get_info make_invoice notifications"
    assert event.tag("notifications") == "payment_received payment_sent"


def test_without_extensions_there_is_no_tag() -> None:
    assert make(extensions=()).tags_named("extensions") == ()


def test_rust_nostr_reads_an_info_event() -> None:
    theirs = nostr_sdk.Event.from_json(make(("payment_received",)).to_json())
    assert theirs.verify()
    assert theirs.kind().as_u16() == KIND_INFO
    assert theirs.kind().is_replaceable()
    assert theirs.content().split() == ["get_info", "make_invoice", "notifications"]
    assert ["p", CLIENT.public_key] in [tag.to_vec() for tag in theirs.tags()]


def test_a_withdrawal_is_an_empty_info_event_and_its_deletion() -> None:
    empty, deletion = withdrawal_events(WALLET, NOW + 1)
    for event in (empty, deletion):
        verify_event(event)
        assert event.pubkey == WALLET.public_key
        assert event.created_at == NOW + 1
    assert (empty.kind, empty.content, empty.tags) == (KIND_INFO, "", ())
    assert (deletion.kind, deletion.content) == (5, "")
    coordinate = deletion.tag("a")
    assert coordinate is not None
    theirs = nostr_sdk.Coordinate.parse(coordinate)
    assert (theirs.kind().as_u16(), theirs.public_key().to_hex()) == (KIND_INFO, WALLET.public_key)
    assert theirs.identifier() == ""
    assert deletion.tag("k") == str(KIND_INFO)


@pytest.mark.parametrize("created_at", [NOW, NOW + 5])
def test_a_withdrawal_has_the_given_time(created_at: int) -> None:
    assert [event.created_at for event in withdrawal_events(WALLET, created_at)] == [created_at] * 2
