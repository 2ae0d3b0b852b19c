"""Slots: no connection can take those of the others, whatever it does."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from nwc.wallet.slots import Slots

OWN, MOST, SHARED = 2, 5, 7


def take_all(slots: Slots, client_pubkey: str) -> int:
    taken = 0
    while slots.are_free(client_pubkey):
        slots.take(client_pubkey)
        taken += 1
    return taken


def test_one_connection_gets_no_more_than_the_most() -> None:
    assert take_all(Slots(own=OWN, most=MOST, shared=SHARED), "a") == MOST


def test_each_connection_has_its_own_slots_when_the_pool_is_empty() -> None:
    slots = Slots(own=OWN, most=MOST, shared=SHARED)
    taken = [take_all(slots, name) for name in "abcdefg"]
    assert taken == [5, 5, 3, 2, 2, 2, 2]
    slots.give_back("a")
    assert take_all(slots, "g") == 1


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=100))
def test_the_limits_hold_in_any_order(steps: list[tuple[str, bool]]) -> None:
    slots = Slots(own=OWN, most=MOST, shared=SHARED)
    taken = Counter[str]()
    for name, begins in steps:
        if begins and slots.are_free(name):
            slots.take(name)
            taken[name] += 1
        elif not begins and taken[name]:
            slots.give_back(name)
            taken[name] -= 1
        from_pool = sum(max(0, count - OWN) for count in taken.values())
        assert max(taken.values(), default=0) <= MOST
        assert from_pool <= SHARED
        for one in "abcd":
            may = taken[one] < OWN or (taken[one] < MOST and from_pool < SHARED)
            assert slots.are_free(one) == may
