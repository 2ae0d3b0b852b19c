from nwc.nip47.seen import SeenEvents

A, B, C, D, E = (character * 64 for character in "abcde")


def test_only_added_ids_are_seen() -> None:
    seen = SeenEvents()
    assert A not in seen
    seen.add(A)
    assert A in seen
    assert B not in seen


def test_a_look_up_adds_nothing() -> None:
    seen = SeenEvents(max_seen=2)
    seen.add(A)
    assert all(event_id not in seen for event_id in (B, C, D))
    assert A in seen


def test_the_older_half_is_dropped_first() -> None:
    seen = SeenEvents(max_seen=4)
    for event_id in (A, B, C, D):
        seen.add(event_id)
    assert all(event_id in seen for event_id in (A, B, C, D))
    seen.add(E)
    assert [event_id in seen for event_id in (A, B, C, D, E)] == [False, False, True, True, True]


def test_an_id_added_twice_takes_one_place() -> None:
    seen = SeenEvents(max_seen=4)
    for event_id in (A, B, B, B):
        seen.add(event_id)
    assert A in seen
    assert B in seen


def test_the_number_of_ids_is_bounded() -> None:
    seen = SeenEvents(max_seen=100)
    ids = [f"{number:064x}" for number in range(1000)]
    for event_id in ids:
        seen.add(event_id)
    remembered = [event_id for event_id in ids if event_id in seen]
    assert remembered == ids[-len(remembered) :]
    assert 50 <= len(remembered) <= 100
