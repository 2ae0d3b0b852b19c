"""One relay, as a protocol: text in, events and text out. No socket, no clock, no task.

Theory of operation
-------------------
A session outlives its connections. It holds what we want from a relay (recipients whose events we read,
events to publish) and requests all of it again on every new connection:

* `connected()`   queues a REQ for every subscription and an EVENT for every event in the outbox.
* `receive()`     processes one frame and returns what the caller must know (events, publish results).
* `tick()`        retries what is due, and gives up publications at their deadline.
* `disconnected()` forgets the state of the connection: confirmed subscriptions, AUTH.

Rules:

1. A recipient stays in `_subscriptions` until the caller removes it. An event stays in `_outbox` until
   the relay answers or its deadline passes. A lost connection loses neither.
2. NIP-42: we answer a challenge with every key that is a recipient here, or that was passed to `publish`
   as the signer of a pending event. If the relay refuses a subscription or event with "auth-required:",
   we send it again after the relay has accepted the AUTH, but not in an endless loop. An event that is
   refused again is sent again only while there is a newer challenge to answer. If a subscription is
   refused again, rule 3 applies, and its keys sign again before the retry.
   Some relays (chorus) answer a REQ with a challenge and EOSE, and then forget the REQ. So we send every
   REQ that is older than a challenge again once the AUTH is accepted, even if the relay confirmed it.
3. If the relay closes a subscription for another reason, we retry after a delay that doubles each time.
   We do the same if the relay answers a REQ with neither EOSE nor CLOSED: nostr-rs-relay refuses a REQ
   by a NOTICE, and so does strfry if there are too many.
4. Everything is bounded: the outbox by number, characters and deadlines, AUTH as auth.py says, and the
   queued frames by the number of recipients and events.
5. `now` and all deadlines are seconds of a monotonic clock, so that no deadline passes early or late
   when the system clock is set. Relays see Unix time (`unix_now`) in AUTH and in the `since` of a REQ.
   If the clock is set back, a `since` may be in the future, and the relay would deliver nothing until
   then. So `tick()` sends such a REQ again.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from nwc.backoff import backoff
from nwc.nostr.auth import Auth
from nwc.nostr.event import Event
from nwc.nostr.keys import KeyPair
from nwc.nostr.messages import (
    AuthReceived,
    ClosedReceived,
    EoseReceived,
    EventReceived,
    NoticeReceived,
    OkReceived,
    close_message,
    event_message,
    parse_relay_message,
    req_message,
)
from nwc.nostr.subscriptions import Recipient, Subscription, Subscriptions

# Subscriptions reach back this much further than necessary. So requests also arrive from a client whose
# clock is behind ours, and a wrong clock can be told from a client that sends nothing.
CLOCK_ERROR_S = 600

MAX_OUTBOX = 8192
MAX_OUTBOX_CHARACTERS = 16 * 1024 * 1024
# A `since` that is later than it should be by no more than this is left alone.
CLOCK_STEP_S = 2
RESUBSCRIBE_FIRST_S = 5
RESUBSCRIBE_MAX_S = 300
# How long a relay may take to answer a REQ, the first time and at most.
UNANSWERED_FIRST_S = 30
UNANSWERED_MAX_S = 300

_AUTH_REQUIRED = "auth-required:"


@dataclass(frozen=True, slots=True)
class Published:
    """The outcome of one publication: whether the relay accepted the event, and its reason."""

    event_id: str
    accepted: bool
    reason: str


@dataclass(slots=True)
class _Outgoing:
    """An event to publish.

    An "auth-required:" refusal is not final if it is the first on this connection, or while an AUTH is
    pending. If the relay sends a new challenge with each refusal, this can take several rounds.
    """

    message: str
    deadline_at: float
    signer: KeyPair | None = None
    sent: bool = False
    awaits_auth: bool = False
    was_refused_for_auth: bool = False


@dataclass(slots=True)
class _Refusal:
    """A subscription that the relay has closed.

    Attributes:
        delays: the seconds until each further retry.
        retry_at: when to send the REQ again; None if it has been sent.
        awaits_auth: the relay wants AUTH first.

    """

    delays: Iterator[float]
    retry_at: float | None = None
    awaits_auth: bool = False


class RelaySession:
    """What we want from one relay, and what the relay has confirmed.

    Args:
        url: the relay's URL, as NIP-42 signs it.
        kinds: event kinds to read.
        max_age: how many seconds a subscription must reach back.

    Attributes:
        is_connected: True if there is a connection.
        has_served: True if the relay has confirmed a subscription or accepted an event on the newest
            connection. It stays False for a relay that only accepts and drops connections.

    """

    def __init__(self, url: str, *, kinds: tuple[int, ...], max_age: int) -> None:
        self.url = url
        self.is_connected = False
        self.has_served = False
        self._kinds = kinds
        self._reach_s = max_age + CLOCK_ERROR_S
        self._subscriptions = Subscriptions()
        self._outbox: dict[str, _Outgoing] = {}
        self._auth = Auth(url, self._keys)
        self._refused: dict[str, _Refusal] = {}
        self._ready: set[str] = set()
        # By subscription id: when to repeat a REQ without an answer, and how many in a row had none.
        self._unanswered: dict[str, float] = {}
        self._times_unanswered: Counter[str] = Counter()
        # Ids of subscriptions that were requested before the newest challenge.
        self._requested_before_auth: set[str] = set()
        self._to_send: list[str] = []
        # Ids only, so that an event that is given up before it was sent is not sent later.
        self._to_publish: dict[str, None] = {}
        # Subscription ids. If many recipients are added at once, a subscription needs one REQ.
        self._to_request: dict[str, None] = {}
        self._outbox_characters = 0

    # What is wanted

    def __len__(self) -> int:
        return len(self._subscriptions)

    def subscribe(self, recipient: Recipient, now: float) -> None:
        """Start to read a recipient's events."""
        subscription = self._subscriptions.add(recipient)
        self._ready.discard(subscription.id)
        if self.is_connected:
            self._auth.enqueue([recipient.keys])
            self._request(subscription, now)

    def unsubscribe(self, public_key: str, now: float) -> None:
        """Stop reading a recipient's events."""
        subscription = self._subscriptions.remove(public_key)
        if subscription is None:
            return
        self._auth.forget(public_key)
        self._after_auth(now)  # its AUTH may have been the last pending one
        if not subscription.recipients:
            self._refused.pop(subscription.id, None)
            self._ready.discard(subscription.id)
            self._mark_answered(subscription.id)
            if self.is_connected:
                self._to_send.append(close_message(subscription.id))
        else:
            self._request(subscription, now)

    def is_listening(self, public_key: str) -> bool:
        """Return True if the relay has confirmed the subscription that holds this recipient."""
        subscription = self._subscriptions.subscription_of(public_key)
        return subscription is not None and subscription.id in self._ready

    def publish(
        self, event: Event, deadline_at: float, signer: KeyPair | None = None
    ) -> Published | None:
        """Put an event into the outbox, to be sent now or once the relay is connected.

        Args:
            event: signed.
            deadline_at: when to give up.
            signer: the key that signed it, for AUTH, if that key is no recipient here.

        Returns:
            A refusal if the outbox is full. Otherwise None: `receive` or `tick` returns the outcome.

        """
        if event.id in self._outbox:
            self._remove(event.id)
        outgoing = _Outgoing(event_message(event), deadline_at, signer)
        size = self._outbox_characters + len(outgoing.message)
        if len(self._outbox) >= MAX_OUTBOX or size > MAX_OUTBOX_CHARACTERS:
            reason = "too many events are pending for this relay"
            return Published(event.id, accepted=False, reason=reason)
        self._outbox[event.id] = outgoing
        self._outbox_characters += len(outgoing.message)
        if signer is not None:
            self._auth.enqueue([signer])
        self._transmit(event.id)
        return None

    # What happens

    def connected(self, now: float) -> None:
        """Start a new connection: request all subscriptions and send all pending events."""
        self.disconnected()
        self.is_connected = True
        self.has_served = False
        for subscription in self._subscriptions:
            self._request(subscription, now)
        for event_id in self._outbox:
            self._transmit(event_id)

    def disconnected(self) -> None:
        """Forget the state of the connection."""
        self.is_connected = False
        self._auth = Auth(self.url, self._keys)
        self._refused.clear()
        self._ready.clear()
        self._unanswered.clear()
        self._times_unanswered.clear()
        self._requested_before_auth.clear()
        self._to_request.clear()
        self._to_send.clear()
        self._to_publish.clear()
        for outgoing in self._outbox.values():
            outgoing.sent = outgoing.awaits_auth = outgoing.was_refused_for_auth = False

    def receive(self, text: str, now: float) -> Event | Published | NoticeReceived | None:
        """Process one frame from the relay.

        Returns:
            An event for a recipient (signature unchecked), the outcome of a publication, a text for
            people, or None.

        Raises:
            MessageError: the frame is not a relay message.

        """
        message = parse_relay_message(text)
        match message:
            case EventReceived(subscription_id, event):
                return event if self._subscriptions.get(subscription_id) else None
            case OkReceived(event_id, accepted, reason):
                return self._on_ok(event_id, accepted, reason, now)
            case EoseReceived(subscription_id):
                self._on_eose(subscription_id)
            case ClosedReceived(subscription_id, reason):
                return self._on_closed(subscription_id, reason, now)
            case AuthReceived(challenge):
                self._requested_before_auth = {subscription.id for subscription in self._subscriptions}
                self._auth.challenged(challenge, now)
            case NoticeReceived():
                return message
        return None

    def tick(self, now: float, unix_now: float) -> list[Published]:
        """Retry what is due, and give up publications at their deadline. Call it about every second.

        Returns:
            The publications that were given up.

        """
        if self._auth.tick(now):
            self._after_auth(now)
        for subscription_id, refused in list(self._refused.items()):
            subscription = self._subscriptions.get(subscription_id)
            if subscription and refused.retry_at is not None and now >= refused.retry_at:
                if refused.awaits_auth:
                    self._auth.enqueue((i.keys for i in subscription.recipients.values()), again=True)
                refused.awaits_auth = False
                self._request(subscription, now)
        self._retry_unanswered(now)
        self._renew_after_clock_change(now, unix_now)
        late = [i for i, outgoing in self._outbox.items() if now >= outgoing.deadline_at]
        return [self._give_up(event_id) for event_id in late]

    def give_up(self) -> list[Published]:
        """Give up all publications. Call it last."""
        return [self._give_up(event_id) for event_id in list(self._outbox)]

    @property
    def is_unanswered(self) -> bool:
        """True if the relay has not answered a REQ in time, so that we have repeated it."""
        return bool(self._times_unanswered)

    @property
    def has_data_to_send(self) -> bool:
        """True if there are frames to send."""
        return bool(self._auth.has_frames or self._to_request or self._to_send or self._to_publish)

    def data_to_send(self, unix_now: float) -> list[str]:
        """Return and forget some of the frames to send, in this order: AUTH, REQ, all others.

        A REQ is held back until every AUTH is sent, so that the relay knows our keys. Events are not.
        """
        frames = self._auth.frames(int(unix_now))
        if self._to_request and not self._auth.has_frames:
            frames += self._requests(int(unix_now) - self._reach_s)
        frames += self._to_send
        frames += (self._outbox[event_id].message for event_id in self._to_publish)
        self._to_send.clear()
        self._to_publish.clear()
        return frames

    # Inside

    def _requests(self, since: int) -> list[str]:
        requests = []
        for subscription_id in self._to_request:
            if subscription := self._subscriptions.get(subscription_id):
                subscription.since = since
                requests.append(req_message(subscription_id, subscription.filter(self._kinds)))
        self._to_request.clear()
        return requests

    def _keys(self) -> Iterator[KeyPair]:
        """Yield the keys that need AUTH."""
        yield from (recipient.keys for recipient in self._subscriptions.recipients())
        yield from (o.signer for o in self._outbox.values() if o.signer is not None)

    def _request(self, subscription: Subscription, now: float) -> None:
        if self.is_connected:
            self._to_request[subscription.id] = None
            subscription.since = 0
            doublings = min(self._times_unanswered[subscription.id], 10)
            delay = UNANSWERED_FIRST_S * 2**doublings
            self._unanswered[subscription.id] = now + min(delay, UNANSWERED_MAX_S)
            if refused := self._refused.get(subscription.id):
                refused.retry_at = None

    def _transmit(self, event_id: str) -> None:
        if self.is_connected:
            outgoing = self._outbox[event_id]
            outgoing.sent, outgoing.awaits_auth = True, False
            self._to_publish[event_id] = None

    def _give_up(self, event_id: str) -> Published:
        outgoing = self._remove(event_id)
        reason = "the relay did not answer" if outgoing.sent else "the relay is not connected"
        if outgoing.awaits_auth:
            reason = "the relay wants AUTH, and has not accepted ours"
        return Published(event_id, accepted=False, reason=reason)

    def _remove(self, event_id: str) -> _Outgoing:
        outgoing = self._outbox.pop(event_id)
        self._to_publish.pop(event_id, None)
        self._outbox_characters -= len(outgoing.message)
        return outgoing

    def _is_closed(self, subscription_id: str) -> bool:
        """Return True if the relay has closed a subscription and we have not requested it again."""
        refused = self._refused.get(subscription_id)
        return refused is not None and refused.retry_at is not None

    def _on_eose(self, subscription_id: str) -> None:
        if self._subscriptions.get(subscription_id) and not self._is_closed(subscription_id):
            self._ready.add(subscription_id)
            self.has_served = True
            self._refused.pop(subscription_id, None)
            self._mark_answered(subscription_id)

    def _mark_answered(self, subscription_id: str) -> None:
        """Record that the relay has answered a REQ."""
        self._unanswered.pop(subscription_id, None)
        del self._times_unanswered[subscription_id]  # a Counter does not raise KeyError

    def _retry_unanswered(self, now: float) -> None:
        for subscription_id, at in list(self._unanswered.items()):
            subscription = self._subscriptions.get(subscription_id)
            if subscription and now >= at:
                self._times_unanswered[subscription_id] += 1
                self._request(subscription, now)

    def _renew_after_clock_change(self, now: float, unix_now: float) -> None:
        latest = unix_now - self._reach_s + CLOCK_STEP_S
        for subscription in self._subscriptions:
            if subscription.since > latest and not self._is_closed(subscription.id):
                self._request(subscription, now)

    def _on_ok(
        self, event_id: str, accepted: bool, reason: str, now: float
    ) -> Published | NoticeReceived | None:
        if self._auth.answered(event_id, accepted, now):
            self._after_auth(now)
            return NoticeReceived(f"AUTH refused: {reason}") if self._auth.is_refused else None
        outgoing = self._outbox.get(event_id)
        if outgoing is None:
            return None
        refused_for_auth = not accepted and reason.startswith(_AUTH_REQUIRED)
        is_first = not outgoing.was_refused_for_auth
        if refused_for_auth and (is_first or self._auth.is_unfinished):
            outgoing.was_refused_for_auth = outgoing.awaits_auth = True
            self._auth.auth_required()
            if is_first and self._auth.is_settled:  # the relay checked the event before the AUTH
                self._transmit(event_id)
            return None
        self._remove(event_id)
        self.has_served |= accepted
        return Published(event_id, accepted or reason.startswith("duplicate:"), reason)

    def _on_closed(self, subscription_id: str, reason: str, now: float) -> NoticeReceived | None:
        subscription = self._subscriptions.get(subscription_id)
        if subscription is None:
            return None
        self._ready.discard(subscription_id)
        self._mark_answered(subscription_id)
        refused = self._refused.setdefault(
            subscription_id, _Refusal(backoff(RESUBSCRIBE_FIRST_S, RESUBSCRIBE_MAX_S))
        )
        refused.awaits_auth = reason.startswith(_AUTH_REQUIRED)
        if refused.retry_at is None:  # a repeated CLOSED does not delay the retry
            refused.retry_at = now + next(refused.delays)
        return NoticeReceived(f"subscription closed: {reason}")

    # NIP-42

    def _after_auth(self, now: float) -> None:
        """Repeat what the relay refused for lack of AUTH, once it has answered for every key."""
        if not self._auth.is_settled:
            return
        for subscription_id, refused in self._refused.items():
            subscription = self._subscriptions.get(subscription_id)
            if subscription and refused.awaits_auth:
                refused.awaits_auth = False
                self._request(subscription, now)
        for event_id, outgoing in self._outbox.items():
            if outgoing.awaits_auth:
                self._transmit(event_id)
        if not self._auth.is_unfinished:
            self._request_again_after_auth(now)

    def _request_again_after_auth(self, now: float) -> None:
        before_auth, self._requested_before_auth = self._requested_before_auth, set()
        for subscription_id in before_auth:
            subscription = self._subscriptions.get(subscription_id)
            if subscription and subscription_id not in self._refused:  # else its retry_at applies
                self._request(subscription, now)
