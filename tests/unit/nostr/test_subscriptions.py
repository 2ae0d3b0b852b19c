import random

from nwc.nostr.keys import KeyPair
from nwc.nostr.messages import req_message
from nwc.nostr.subscriptions import (
    INBOXES_IN_PACK,
    INBOXES_IN_SMALL_PACK,
    SMALL_PACKS,
    Inbox,
    Pack,
    Packs,
)

KEYS = [KeyPair.from_secret(number.to_bytes(32, "big")) for number in range(1, 5002)]
INBOXES = [
    Inbox(keys, author) for keys, author in zip(KEYS, (f"{n:064x}" for n in range(5001)), strict=True)
]


def packs_of(count: int) -> Packs:
    packs = Packs()
    for inbox in INBOXES[:count]:
        packs.add(inbox)
    return packs


def contents(packs: Packs) -> dict[str, set[str]]:
    return {pack.subscription_id: set(pack.inboxes) for pack in packs}


def check(packs: Packs) -> None:
    """No inbox is in two packs or lost, no pack is empty or too full, and all are found."""
    everything = [key for pack in packs for key in pack.inboxes]
    assert len(everything) == len(set(everything)) == len(packs) == len(packs.inboxes())
    for pack in packs:
        assert 0 < len(pack.inboxes) <= pack.room <= INBOXES_IN_PACK
        assert packs.get(pack.subscription_id) is pack
        assert all(packs.pack_of(key) is pack for key in pack.inboxes)


def test_one_more_of_5000_changes_one_pack() -> None:
    packs = packs_of(5000)
    before = contents(packs)
    changed = packs.add(INBOXES[5000])
    after = contents(packs)
    assert [name for name in after if after[name] != before.get(name)] == [changed.subscription_id]
    assert after[changed.subscription_id] - before[changed.subscription_id] == {KEYS[5000].public_key}
    check(packs)


def test_the_first_packs_are_small_and_thousands_are_few() -> None:
    packs = packs_of(5000)
    sizes = [len(pack.inboxes) for pack in packs]
    assert sizes[:SMALL_PACKS] == [INBOXES_IN_SMALL_PACK] * SMALL_PACKS
    assert sizes[SMALL_PACKS:-1] == [INBOXES_IN_PACK] * (len(sizes) - SMALL_PACKS - 1)
    # nostream allows 10 subscriptions, strfry allowed 20 for long.
    assert len(sizes) == 10
    assert SMALL_PACKS * INBOXES_IN_SMALL_PACK + (20 - SMALL_PACKS) * INBOXES_IN_PACK >= 10_000


def test_a_req_is_no_larger_than_relays_take() -> None:
    requests = [
        req_message(pack.subscription_id, pack.filter((23194,), 1_800_000_000))
        for pack in packs_of(5000)
    ]
    # What NIP-11 shows as an example and some relays took over; what strfry and nostr-rs-relay allow.
    assert max(map(len, requests[:SMALL_PACKS])) <= 16_384
    assert max(map(len, requests)) <= 131_072


def test_one_less_of_5000_changes_one_pack() -> None:
    packs = packs_of(5000)
    before = contents(packs)
    changed = packs.remove(KEYS[2345].public_key)
    after = contents(packs)
    assert changed is not None
    assert [name for name in after if after[name] != before[name]] == [changed.subscription_id]
    assert KEYS[2345].public_key not in changed.inboxes
    assert packs.pack_of(KEYS[2345].public_key) is None
    check(packs)


def test_a_gap_is_filled_before_a_pack_is_made() -> None:
    full = SMALL_PACKS * INBOXES_IN_SMALL_PACK
    packs = packs_of(full)
    holed = packs.remove(KEYS[150].public_key)
    assert packs.add(INBOXES[full]) is holed
    assert len(contents(packs)) == SMALL_PACKS
    assert packs.add(INBOXES[full + 1]) is not holed
    assert len(contents(packs)) == SMALL_PACKS + 1
    check(packs)


def test_adding_again_keeps_the_place() -> None:
    packs = packs_of(250)
    place = packs.pack_of(KEYS[0].public_key)
    again = Inbox(KEYS[0], "f" * 64)
    assert packs.add(again) is place
    assert len(packs) == 250
    assert again in packs.inboxes()
    assert INBOXES[0] not in packs.inboxes()
    check(packs)


def test_a_pack_parted_in_two() -> None:
    packs = packs_of(150)
    whole, other = packs
    leaving = list(whole.inboxes)[:30]
    new = packs.divide(whole, leaving)
    assert list(new.inboxes) == leaving
    assert len(whole.inboxes) == 70
    check(packs)
    # What comes later does not join those that were parted off.
    assert packs.add(INBOXES[150]) is other
    for recipient in leaving:
        assert packs.remove(recipient) is new
    assert packs.get(new.subscription_id) is None
    check(packs)


def test_an_empty_pack_is_forgotten_and_its_name_not_used_again() -> None:
    packs = packs_of(1)
    gone = packs.remove(KEYS[0].public_key)
    assert gone is not None
    assert not gone.inboxes
    assert list(packs) == []
    assert packs.get(gone.subscription_id) is None
    assert packs.add(INBOXES[1]).subscription_id != gone.subscription_id


def test_removing_what_is_not_there() -> None:
    packs = packs_of(1)
    assert packs.remove(KEYS[7].public_key) is None
    assert len(packs) == 1


def test_come_and_go_at_random() -> None:
    packs, chance, inside = Packs(), random.Random(1), set[int]()
    for _ in range(3000):
        number = chance.randrange(400)
        if number in inside and chance.random() < 0.5:
            packs.remove(KEYS[number].public_key)
            inside.remove(number)
        else:
            packs.add(INBOXES[number])
            inside.add(number)
    assert {inbox.recipient.public_key for inbox in packs.inboxes()} == {
        KEYS[number].public_key for number in inside
    }
    check(packs)


def test_filter() -> None:
    pack = Pack(
        "s", {key.public_key: Inbox(key, author) for key, author in zip(KEYS[:3], "bab", strict=True)}
    )
    assert pack.filter((23194, 1), 77) == {
        "kinds": [23194, 1],
        "#p": [key.public_key for key in KEYS[:3]],
        "authors": ["a", "b"],
        "since": 77,
    }
