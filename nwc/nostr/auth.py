"""NIP-42 on one connection: which of our keys sign the relay's challenge, and what it says to each.

A state machine beside session.py, without socket or clock. It signs when frames are taken, a few at a
time: with thousands of keys on a relay the event loop is never held for long.
"""

from collections.abc import Iterable
from itertools import islice

from nwc.nostr import nip42
from nwc.nostr.keys import KeyPair
from nwc.nostr.messages import auth_message

# Some relays send a challenge with each refusal. The newest is answered, the first few at once.
PROMPT_CHALLENGES = 3
NEXT_CHALLENGE_FIRST_S = 5
NEXT_CHALLENGE_MAX_S = 300
# An AUTH that the relay passes over must not keep the others waiting.
PATIENCE_S = 10
# A signature takes 0.1 to 0.3 ms.
SIGNED_AT_ONCE = 32


class Auth:
    """AUTH for every key that has something to do on one connection.

    Args:
        url: the relay's URL, as NIP-42 signs it.

    Attributes:
        refused: keys whose AUTH the relay has refused. It may serve them all the same: some relays take
            one AUTH a challenge and are content with it.

    """

    def __init__(self, url: str) -> None:
        self.refused: set[str] = set()
        self._url = url
        self._challenge = ""
        self._newer = ""
        self._challenges = 0
        self._next_at = 0.0
        self._now = 0.0
        self._give_up_at = 0.0
        self._to_sign: dict[str, KeyPair] = {}
        self._asked: set[str] = set()
        self._pending: dict[str, str] = {}
        self._is_accepted = False

    @property
    def has_frames(self) -> bool:
        """Tell whether AUTH is still to be sent."""
        return bool(self._to_sign)

    @property
    def is_settled(self) -> bool:
        """Tell whether the relay has answered for every key, and taken one at least."""
        return self._is_accepted and not self._pending and not self._to_sign

    @property
    def is_refused(self) -> bool:
        """Tell whether the relay has answered for every key, and taken none."""
        is_over = not self._pending and not self._to_sign
        return bool(self.refused) and is_over and not self._is_accepted

    def challenged(self, challenge: str, keys: Iterable[KeyPair], now: float) -> None:
        """Take a challenge, which makes all before it void; answer it now or, in a flood, later."""
        if self._challenges >= PROMPT_CHALLENGES and now < self._next_at:
            self._newer = challenge
            return
        self._challenge, self._newer = challenge, ""
        self._challenges += 1
        doublings = min(max(0, self._challenges - PROMPT_CHALLENGES), 10)
        self._next_at = now + min(NEXT_CHALLENGE_FIRST_S * 2**doublings, NEXT_CHALLENGE_MAX_S)
        # What was accepted before stays so: the session is valid for the whole connection (NIP-42).
        for collection in (self.refused, self._to_sign, self._asked, self._pending):
            collection.clear()
        self._now = now
        self.ask(keys)

    def ask(self, keys: Iterable[KeyPair], *, again: bool = False) -> None:
        """Have keys sign the challenge, if there is one: those that have not yet, or also once more."""
        if not self._challenge:
            return
        self._give_up_at = self._now + PATIENCE_S
        for key in keys:
            if again or key.public_key not in self._asked:
                self._asked.add(key.public_key)
                self._to_sign[key.public_key] = key

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
        self._give_up_at = now + PATIENCE_S
        self._is_accepted |= accepted
        if accepted:
            self.refused.discard(public_key)
        elif public_key in self._asked:
            self.refused.add(public_key)
        return True

    def tick(self, keys: Iterable[KeyPair], now: float) -> bool:
        """Answer a challenge that had to wait; tells whether waiting for answers ends now.

        To be called every second or so: it also is how this learns of the time.
        """
        self._now = now
        if self._newer and now >= self._next_at:
            self.challenged(self._newer, keys, now)
            return False
        if not self._pending or self._to_sign or now < self._give_up_at:
            return False
        self._pending.clear()
        return True
