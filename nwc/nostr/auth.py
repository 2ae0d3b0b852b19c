"""NIP-42 on one connection: sign the relay's challenge with our keys, and track its answers.

A state machine beside session.py, without socket or clock: `now` is seconds of a monotonic clock. It
signs when frames are requested, for SIGN_BATCH keys at a time, so that thousands of keys on one relay do
not hold up the event loop.
"""

from collections.abc import Callable, Iterable
from itertools import chain, islice, repeat

from nwc.backoff import backoff
from nwc.nostr.event import Event, sign_event
from nwc.nostr.keys import KeyPair
from nwc.nostr.messages import auth_message

KIND_CLIENT_AUTH = 22242
# rust-nostr's relay sends a new challenge with each refusal. In one round all keys answer the newest
# challenge. The first few rounds begin at once; later ones are delayed, each longer than the one before.
PROMPT_ROUNDS = 3
NEXT_ROUND_FIRST_S = 5
NEXT_ROUND_MAX_S = 300
# An AUTH that the relay does not answer must not delay the others for longer than this.
ANSWER_TIMEOUT_S = 10
# Making and sending one AUTH takes 0.1 to 0.3 ms.
SIGN_BATCH = 32


def auth_event(keys: KeyPair, relay_url: str, challenge: str, created_at: int) -> Event:
    """Return the signed answer to a relay's challenge (NIP-42, "Signed event for authentication").

    Args:
        keys: the key that signs.
        relay_url: the relay's URL.
        challenge: as the relay sent it.
        created_at: Unix seconds.

    """
    tags = [["relay", relay_url], ["challenge", challenge]]
    return sign_event(keys, kind=KIND_CLIENT_AUTH, content="", tags=tags, created_at=created_at)


class Auth:
    """AUTH on one connection, for every key that subscribes or publishes on it.

    Args:
        url: the relay's URL, as NIP-42 signs it.
        keys: returns those keys.

    """

    def __init__(self, url: str, keys: Callable[[], Iterable[KeyPair]]) -> None:
        self._url = url
        self._keys = keys
        self._challenge = ""
        self._is_round_due = False
        self._next_round_at = 0.0
        no_delays = repeat(0.0, PROMPT_ROUNDS - 1)
        self._delays = chain(no_delays, backoff(NEXT_ROUND_FIRST_S, NEXT_ROUND_MAX_S))
        self._now = 0.0
        self._give_up_at = 0.0
        self._enqueued: set[str] = set()
        self._to_sign: dict[str, KeyPair] = {}
        self._pending: dict[str, str] = {}
        self._is_accepted = False
        self._has_refused = False

    @property
    def has_frames(self) -> bool:
        """True if there is AUTH to send."""
        return bool(self._to_sign)

    @property
    def is_settled(self) -> bool:
        """True if the relay has answered for every key and accepted at least one.

        One is enough: strfry and nostr-rs-relay authenticate one key for each connection (strfry refuses
        the others, nostr-rs-relay accepts and ignores them), for khatru the newest key counts.
        """
        return self._is_accepted and not self._is_in_progress

    @property
    def is_refused(self) -> bool:
        """True if the relay has answered for every key and accepted none."""
        return self._has_refused and not self._is_accepted and not self._is_in_progress

    @property
    def is_unfinished(self) -> bool:
        """True if the newest challenge is not answered yet, or the relay's OK is pending."""
        return self._is_round_due or self._is_in_progress

    @property
    def _is_in_progress(self) -> bool:
        return bool(self._pending or self._to_sign)

    def challenged(self, challenge: str, now: float) -> None:
        """Accept a new challenge, which replaces the earlier ones."""
        self._challenge, self._now = challenge, now
        self._is_round_due = bool(challenge)
        self._begin_round()

    def enqueue(self, keys: Iterable[KeyPair], *, again: bool = False) -> None:
        """Queue an AUTH for each of these keys, if there is a challenge.

        Args:
            keys: the keys that sign.
            again: also queue keys that have signed on this connection before.

        """
        if not self._challenge:
            return
        self._give_up_at = self._now + ANSWER_TIMEOUT_S
        for key in keys:
            if again or key.public_key not in self._enqueued:
                self._enqueued.add(key.public_key)
                self._to_sign[key.public_key] = key

    def auth_required(self) -> None:
        """Start a new round if the relay wants AUTH, has accepted none, and none is pending."""
        if self._challenge and not self._is_accepted and not self._is_in_progress:
            self._is_round_due = True
            self._begin_round()

    def forget(self, public_key: str) -> None:
        """Forget a key that is not needed any more."""
        self._enqueued.discard(public_key)
        self._to_sign.pop(public_key, None)

    def frames(self, created_at: int) -> list[str]:
        """Sign for up to SIGN_BATCH keys and return the frames to send.

        Args:
            created_at: Unix seconds.

        """
        frames = []
        for public_key in list(islice(self._to_sign, SIGN_BATCH)):
            key = self._to_sign.pop(public_key)
            event = auth_event(key, self._url, self._challenge, created_at)
            self._pending[event.id] = public_key
            frames.append(auth_message(event))
        return frames

    def answered(self, event_id: str, accepted: bool, now: float) -> bool:
        """Process an OK. Return True if it was for one of our AUTH events."""
        public_key = self._pending.pop(event_id, None)
        if public_key is None:
            return False
        self._now, self._give_up_at = now, now + ANSWER_TIMEOUT_S
        self._is_accepted |= accepted
        self._has_refused |= not accepted and public_key in self._enqueued
        self._begin_round()
        return True

    def tick(self, now: float) -> bool:
        """Start a round that is due, and give up on answers after ANSWER_TIMEOUT_S.

        Call it about every second: this object has no other clock.

        Returns:
            True if pending answers were given up.

        """
        self._now = now
        is_given_up = bool(self._pending) and not self._to_sign and now >= self._give_up_at
        if is_given_up:
            self._pending.clear()
        self._begin_round()
        return is_given_up

    def _begin_round(self) -> None:
        """Queue AUTH of all keys for the newest challenge.

        Rounds do not overlap. If challenges arrive in a flood, rounds are delayed more and more.
        """
        if not self._is_round_due or self._is_in_progress or self._now < self._next_round_at:
            return
        self._is_round_due = False
        self._next_round_at = self._now + next(self._delays)
        self.enqueue(self._keys(), again=True)
