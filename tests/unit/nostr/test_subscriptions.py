import random

from nwc.nostr.keys import KeyPair
from nwc.nostr.messages import req_message
from nwc.nostr.subscriptions import (
    SUBSCRIPTION_ROOM,
    Recipient,
    Subscription,
    Subscriptions,
)

KEYS = [KeyPair.from_secret(number.to_bytes(32, "big")) for number in range(1, 1002)]
RECIPIENTS = [
    Recipient(keys, author)
    for keys, author in zip(KEYS, (f"{n:064x}" for n in range(1001)), strict=True)
]


def subscriptions_of(count: int) -> Subscriptions:
    subscriptions = Subscriptions()
    for recipient in RECIPIENTS[:count]:
        subscriptions.add(recipient)
    return subscriptions


def contents(subscriptions: Subscriptions) -> dict[str, set[str]]:
    return {subscription.id: set(subscription.recipients) for subscription in subscriptions}


def check(subscriptions: Subscriptions) -> None:
    """Check that every recipient is in one subscription, and that none is empty or too full."""
    everything = [key for subscription in subscriptions for key in subscription.recipients]
    assert (
        len(everything) == len(set(everything)) == len(subscriptions) == len(subscriptions.recipients())
    )
    for subscription in subscriptions:
        assert 0 < len(subscription.recipients) <= SUBSCRIPTION_ROOM
        assert subscriptions.get(subscription.id) is subscription
        assert all(subscriptions.subscription_of(key) is subscription for key in subscription.recipients)


def test_adding_one_to_950_recipients_changes_one_subscription() -> None:
    subscriptions = subscriptions_of(950)
    before = contents(subscriptions)
    changed = subscriptions.add(RECIPIENTS[950])
    after = contents(subscriptions)
    assert [name for name in after if after[name] != before.get(name)] == [changed.id]
    assert after[changed.id] - before[changed.id] == {KEYS[950].public_key}
    check(subscriptions)


def test_1000_recipients_need_no_more_and_no_larger_reqs_than_relays_accept() -> None:
    subscriptions = list(subscriptions_of(1000))
    for subscription in subscriptions:
        subscription.since = 1_800_000_000
    requests = [req_message(each.id, each.filter((23194,))) for each in subscriptions]
    # nostream allows 10 subscriptions, strfry allowed 20 for long. 16,384 is the example in NIP-11;
    # some relays use it. strfry and nostr-rs-relay allow 131,072.
    assert len(requests) == 10
    assert max(map(len, requests)) <= 16_384


def test_removing_one_of_950_recipients_changes_one_subscription() -> None:
    subscriptions = subscriptions_of(950)
    before = contents(subscriptions)
    changed = subscriptions.remove(KEYS[345].public_key)
    after = contents(subscriptions)
    assert changed is not None
    assert [name for name in after if after[name] != before[name]] == [changed.id]
    assert KEYS[345].public_key not in changed.recipients
    assert subscriptions.subscription_of(KEYS[345].public_key) is None
    check(subscriptions)


def test_a_gap_is_filled_before_a_subscription_is_created() -> None:
    full = 4 * SUBSCRIPTION_ROOM
    subscriptions = subscriptions_of(full)
    with_gap = subscriptions.remove(KEYS[150].public_key)
    assert subscriptions.add(RECIPIENTS[full]) is with_gap
    assert len(contents(subscriptions)) == 4
    assert subscriptions.add(RECIPIENTS[full + 1]) is not with_gap
    assert len(contents(subscriptions)) == 5
    check(subscriptions)


def test_adding_a_recipient_again_keeps_its_subscription() -> None:
    subscriptions = subscriptions_of(250)
    before = subscriptions.subscription_of(KEYS[0].public_key)
    again = Recipient(KEYS[0], "f" * 64)
    assert subscriptions.add(again) is before
    assert len(subscriptions) == 250
    assert again in subscriptions.recipients()
    assert RECIPIENTS[0] not in subscriptions.recipients()
    check(subscriptions)


def test_an_empty_subscription_is_forgotten_and_its_id_is_not_used_again() -> None:
    subscriptions = subscriptions_of(1)
    gone = subscriptions.remove(KEYS[0].public_key)
    assert gone is not None
    assert not gone.recipients
    assert list(subscriptions) == []
    assert subscriptions.get(gone.id) is None
    assert subscriptions.add(RECIPIENTS[1]).id != gone.id


def test_removing_an_unknown_recipient_changes_nothing() -> None:
    subscriptions = subscriptions_of(1)
    assert subscriptions.remove(KEYS[7].public_key) is None
    assert len(subscriptions) == 1


def test_random_adding_and_removing_loses_no_recipient() -> None:
    subscriptions, chance, inside = Subscriptions(), random.Random(1), set[int]()
    for _ in range(3000):
        number = chance.randrange(400)
        if number in inside and chance.random() < 0.5:
            subscriptions.remove(KEYS[number].public_key)
            inside.remove(number)
        else:
            subscriptions.add(RECIPIENTS[number])
            inside.add(number)
    assert {recipient.keys.public_key for recipient in subscriptions.recipients()} == {
        KEYS[number].public_key for number in inside
    }
    check(subscriptions)


def test_the_filter_names_recipients_and_each_author_once() -> None:
    subscription = Subscription(
        "s",
        {key.public_key: Recipient(key, author) for key, author in zip(KEYS[:3], "bab", strict=True)},
        since=77,
    )
    assert subscription.filter((23194, 1)) == {
        "kinds": [23194, 1],
        "#p": [key.public_key for key in KEYS[:3]],
        "authors": ["a", "b"],
        "since": 77,
    }
