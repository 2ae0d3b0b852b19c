from nwc.nostr.seen import SeenEvents


def test_remembers_what_was_added() -> None:
    seen = SeenEvents()
    assert "a" not in seen
    seen.add("a")
    assert "a" in seen
    assert "b" not in seen


def test_asking_remembers_nothing() -> None:
    seen = SeenEvents(max_seen=1)
    seen.add("a")
    assert "b" not in seen
    assert "a" in seen


def test_the_oldest_goes_first() -> None:
    seen = SeenEvents(max_seen=3)
    for event_id in ("a", "b", "c", "d"):
        seen.add(event_id)
    assert [event_id in seen for event_id in ("a", "b", "c", "d")] == [False, True, True, True]


def test_adding_twice_takes_one_place() -> None:
    seen = SeenEvents(max_seen=2)
    for event_id in ("a", "b", "b", "b"):
        seen.add(event_id)
    assert "a" in seen
    assert "b" in seen
