"""Places: nobody can take those of the others, whatever they do."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from nwc.wallet.slots import Slots

OWN, MOST, SHARED = 2, 5, 7


def take_all(places: Slots, client_pubkey: str) -> int:
    taken = 0
    while places.are_free(client_pubkey):
        places.take(client_pubkey)
        taken += 1
    return taken


def test_one_gets_as_many_as_one_may_have() -> None:
    assert take_all(Slots(own=OWN, most=MOST, shared=SHARED), "a") == MOST


def test_each_has_its_own_when_the_pool_is_empty() -> None:
    places = Slots(own=OWN, most=MOST, shared=SHARED)
    taken = [take_all(places, name) for name in "abcdefg"]
    assert taken == [5, 5, 3, 2, 2, 2, 2]
    places.give_back("a")
    assert take_all(places, "g") == 1


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=100))
def test_the_bounds_hold_in_any_order(steps: list[tuple[str, bool]]) -> None:
    places = Slots(own=OWN, most=MOST, shared=SHARED)
    taken = Counter[str]()
    for name, begins in steps:
        if begins and places.are_free(name):
            places.take(name)
            taken[name] += 1
        elif not begins and taken[name]:
            places.give_back(name)
            taken[name] -= 1
        of_pool = sum(max(0, count - OWN) for count in taken.values())
        assert max(taken.values(), default=0) <= MOST
        assert of_pool <= SHARED
        for one in "abcd":
            may = taken[one] < OWN or (taken[one] < MOST and of_pool < SHARED)
            assert places.are_free(one) == may
        assert places.are_any_taken == any(taken.values())
