"""NIP-42 on one connection: which of our keys sign the relay's challenge, and what it says to each.

A state machine beside session.py, without socket or clock. It signs when frames are taken, a few at a
time: with thousands of keys on a relay the event loop is never held for long.
"""

from collections.abc import Callable, Iterable
from itertools import islice

from nwc.nostr import nip42
from nwc.nostr.keys import KeyPair
from nwc.nostr.messages import auth_message

# Some relays send a challenge with each refusal: the newest is answered, the first few times at once.
PROMPT_ROUNDS = 3
NEXT_ROUND_FIRST_S = 5
NEXT_ROUND_MAX_S = 300
# An AUTH that the relay passes over must not keep the others waiting.
PATIENCE_S = 10
# An AUTH takes 0.1 to 0.3 ms to make and to send.
SIGNED_AT_ONCE = 32


class Auth:
    """AUTH for every key that has something to do on one connection.

    Args:
        url: the relay's URL, as NIP-42 signs it.
        keys: returns those keys.

    Attributes:
        refused: keys whose last AUTH the relay has refused. It may serve them all the same: some take
            one AUTH a challenge and are content with it.

    """

    def __init__(self, url: str, keys: Callable[[], Iterable[KeyPair]]) -> None:
        self.refused: set[str] = set()
        self._url = url
        self._keys = keys
        self._challenge = ""
        self._is_round_due = False
        self._rounds = 0
        self._next_round_at = 0.0
        self._now = 0.0
        self._give_up_at = 0.0
        self._asked: set[str] = set()
        self._to_sign: dict[str, KeyPair] = {}
        self._pending: dict[str, str] = {}
        self._is_accepted = False

    @property
    def has_frames(self) -> bool:
        """Tell whether AUTH is still to be sent."""
        return bool(self._to_sign)

    @property
    def is_settled(self) -> bool:
        """Tell whether the relay has answered for every key, and taken one at least.

        What was taken stays so: it is valid for the whole connection (NIP-42).
        """
        return self._is_accepted and not self._is_under_way

    @property
    def is_refused(self) -> bool:
        """Tell whether the relay has answered for every key, and taken none."""
        return bool(self.refused) and not self._is_accepted and not self._is_under_way

    @property
    def is_unfinished(self) -> bool:
        """Tell whether the newest challenge is still to be answered, or an answer to be judged."""
        return self._is_round_due or self._is_under_way

    @property
    def _is_under_way(self) -> bool:
        return bool(self._pending or self._to_sign)

    def challenged(self, challenge: str, now: float) -> None:
        """Take a challenge, which makes all before it void."""
        self._challenge, self._now = challenge, now
        self._is_round_due = bool(challenge)
        self._begin_round()

    def ask(self, keys: Iterable[KeyPair], *, again: bool = False) -> None:
        """Have keys sign the challenge, if there is one: those that have not yet, or also once more."""
        if not self._challenge:
            return
        self._give_up_at = self._now + PATIENCE_S
        for key in keys:
            if again or key.public_key not in self._asked:
                self._asked.add(key.public_key)
                self._to_sign[key.public_key] = key

    def required(self) -> None:
        """Begin again where the relay wants AUTH and has taken none, with nothing under way."""
        if self._challenge and not self._is_accepted and not self._is_under_way:
            self._is_round_due = True
            self._begin_round()

    def forget(self, public_key: str) -> None:
        """Have no more to do with a key."""
        self._asked.discard(public_key)
        self._to_sign.pop(public_key, None)
        self.refused.discard(public_key)

    def frames(self) -> list[str]:
        """Sign for some of the keys; return the frames to send."""
        frames = []
        for public_key in list(islice(self._to_sign, SIGNED_AT_ONCE)):
            key = self._to_sign.pop(public_key)
            event = nip42.auth_event(key, self._url, self._challenge, int(self._now))
            self._pending[event.id] = public_key
            frames.append(auth_message(event))
        return frames

    def answered(self, event_id: str, accepted: bool, now: float) -> bool:
        """Take an OK; tells whether it was for an AUTH of ours."""
        public_key = self._pending.pop(event_id, None)
        if public_key is None:
            return False
        self._now, self._give_up_at = now, now + PATIENCE_S
        self._is_accepted |= accepted
        if accepted:
            self.refused.discard(public_key)
        elif public_key in self._asked:
            self.refused.add(public_key)
        self._begin_round()
        return True

    def tick(self, now: float) -> bool:
        """Do what is due; tells whether waiting for answers ends now.

        To be called every second or so: it also is how this learns of the time.
        """
        self._now = now
        is_given_up = bool(self._pending) and not self._to_sign and now >= self._give_up_at
        if is_given_up:
            self._pending.clear()
        self._begin_round()
        return is_given_up

    def clock_moved(self, by_s: float) -> None:
        """Move along what is waited for: the clock was set."""
        self._now += by_s
        self._next_round_at += by_s
        self._give_up_at += by_s

    def _begin_round(self) -> None:
        """Have all keys answer the newest challenge: one round after the other, in a flood not often."""
        is_too_soon = self._rounds >= PROMPT_ROUNDS and self._now < self._next_round_at
        if not self._is_round_due or self._is_under_way or is_too_soon:
            return
        self._is_round_due = False
        self._rounds += 1
        doublings = min(max(0, self._rounds - PROMPT_ROUNDS), 10)
        self._next_round_at = self._now + min(NEXT_ROUND_FIRST_S * 2**doublings, NEXT_ROUND_MAX_S)
        self.ask(self._keys(), again=True)
