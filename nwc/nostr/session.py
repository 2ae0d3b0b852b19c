"""One relay, as a protocol: text in, events and text out. No socket, no clock, no task.

Theory of operation
-------------------
A session outlives its connections. It holds what we *want* of a relay (inboxes to read, events to
publish) and brings every new connection to that state:

* `connected()`   queues a REQ for every pack of inboxes and an EVENT for everything in the outbox.
* `receive()`     takes one frame, returns what the caller has to know (events, publish results).
* `tick()`        re-sends what is due and gives up what is past its deadline.
* `disconnected()` forgets what belonged to the connection: subscriptions in force, AUTH.

Rules:

1. What is wanted stays in `packs` and `outbox` until the caller withdraws it, the relay answers for it
   or its deadline passes. A lost connection loses nothing of it.
2. NIP-42: a challenge is answered with every key that has an inbox here, or that signs a publication and
   was named with it. "auth-required" on a subscription or event means: again after the relay has
   accepted the AUTH, never in a loop. An event that is refused again is sent again as long as there is
   a newer challenge to answer. Keys that a relay will not serve must not keep it from serving the
   others: see `_divide`.
   A relay may also answer a REQ with a challenge and EOSE, and forget it (chorus): what was asked for
   before a challenge is asked for again once the AUTH is accepted, whatever the relay has said.
3. A subscription the relay closes for another reason is asked for again, each time later. So is one it
   answers with neither EOSE nor CLOSED: older relays say a NOTICE instead.
4. Everything is bounded: the outbox by number and deadline, AUTH as auth.py says, the frames
   queued by what is wanted.
5. All times are Unix seconds. The clock they come from may be set: `clock_moved()` moves along what is
   waited for, so that it comes neither sooner nor later for it.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

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
from nwc.nostr.subscriptions import Inbox, Pack, Packs

# Subscriptions reach back so much further than they need: a request from somebody whose clock is behind
# ours, or so it seems when ours is wrong, comes too, and can be told apart from none.
CLOCK_ERROR_S = 600

MAX_OUTBOX = 8192
MAX_OUTBOX_CHARACTERS = 16 * 1024 * 1024
RESUBSCRIBE_FIRST_S = 5
RESUBSCRIBE_MAX_S = 300
# How long a relay may take to answer a REQ, the first time and at most.
UNANSWERED_FIRST_S = 30
UNANSWERED_MAX_S = 300
# Subscriptions that may be parted in two on one connection: relays allow few.
MAX_DIVISIONS = 16
# Times on one connection that AUTH which a relay has forgotten is made again at once. One that forgets
# without end would have all keys sign each second.
MAX_PROMPT_RENEWALS = 32

_AUTH_REQUIRED, _RESTRICTED = "auth-required:", "restricted:"


@dataclass(frozen=True, slots=True)
class Published:
    """The end of one publication: accepted by the relay, or not, and why."""

    event_id: str
    accepted: bool
    reason: str


@dataclass(slots=True)
class _Outgoing:
    """An event to publish.

    A refusal for want of AUTH is not the last word the first time on a connection, and as long as there
    is AUTH to make: with a relay that sends a challenge each time, that can be some rounds later.
    """

    message: str
    deadline_at: float
    signer: KeyPair | None = None
    sent: bool = False
    awaits_auth: bool = False
    was_refused_for_auth: bool = False


@dataclass(slots=True)
class _Subscription:
    """A subscription the relay has refused: when to ask again, or that AUTH comes first.

    Without `retry_at` it has been asked for again.
    """

    refusals: int = 0
    retry_at: float | None = None
    awaits_auth: bool = False


class RelaySession:
    """What we want of one relay, and what it has granted.

    Args:
        url: the relay's URL, as NIP-42 signs it.
        kinds: event kinds to read.
        max_age: seconds a subscription reaches back, at least.

    Attributes:
        is_connected: whether there is a connection.
        has_served: whether the relay has confirmed a subscription or taken an event on the newest
            connection: one that takes connections and drops them has not.

    """

    def __init__(self, url: str, *, kinds: tuple[int, ...], max_age: int) -> None:
        self.url = url
        self.is_connected = False
        self.has_served = False
        self._kinds = kinds
        self._reach_s = max_age + CLOCK_ERROR_S
        self._packs = Packs()
        self._outbox: dict[str, _Outgoing] = {}
        self._auth = Auth(url, self._keys)
        self._divisions = 0
        self._prompt_renewals = 0
        self._refused: dict[str, _Subscription] = {}
        self._ready: set[str] = set()
        # When to ask again for what the relay has not answered, and how often in a row it did not.
        self._unanswered: dict[str, float] = {}
        self._silences: Counter[str] = Counter()
        # Asked for before the newest challenge.
        self._before_auth: set[str] = set()
        self._to_send: list[str] = []
        # By id: an event that is given up before there was room for it is not sent any more.
        self._to_publish: dict[str, None] = {}
        # Packs to ask for and the time of it: however many inboxes join at once, one REQ for each pack.
        self._to_request: dict[str, float] = {}
        self._outbox_characters = 0

    # What is wanted

    def __len__(self) -> int:
        return len(self._packs)

    def subscribe(self, inbox: Inbox, now: float) -> None:
        """Read an inbox from now on."""
        pack = self._packs.add(inbox)
        self._ready.discard(pack.subscription_id)
        if self.is_connected:
            self._auth.ask([inbox.recipient])
            self._request(pack, now)

    def unsubscribe(self, recipient: str, now: float) -> None:
        """Stop reading the inbox of one of our keys."""
        pack = self._packs.remove(recipient)
        if pack is None:
            return
        self._auth.forget(recipient)
        self._after_auth(now)  # its AUTH may have been the last that others waited for
        if not pack.inboxes:
            self._refused.pop(pack.subscription_id, None)
            self._ready.discard(pack.subscription_id)
            self._answered(pack.subscription_id)
            self._send(close_message(pack.subscription_id))
        else:
            self._request(pack, now)

    def is_listening(self, recipient: str) -> bool:
        """Tell whether the relay has confirmed the subscription that holds this inbox."""
        pack = self._packs.pack_of(recipient)
        return pack is not None and pack.subscription_id in self._ready

    def publish(
        self, event: Event, deadline_at: float, signer: KeyPair | None = None
    ) -> Published | None:
        """Put an event into the outbox, to be sent now or when the relay is back.

        Args:
            event: signed.
            deadline_at: when to give up, in Unix seconds.
            signer: its key, for AUTH, where that has no inbox here.

        Returns:
            A refusal when the outbox is full; otherwise nothing: the result comes from `receive`
            or `tick`.

        """
        if event.id in self._outbox:
            self._remove(event.id)
        outgoing = _Outgoing(event_message(event), deadline_at, signer)
        size = self._outbox_characters + len(outgoing.message)
        if len(self._outbox) >= MAX_OUTBOX or size > MAX_OUTBOX_CHARACTERS:
            return Published(event.id, accepted=False, reason="too many events wait for this relay")
        self._outbox[event.id] = outgoing
        self._outbox_characters += len(outgoing.message)
        if signer is not None:
            self._auth.ask([signer])
        self._transmit(event.id)
        return None

    # What happens

    def connected(self, now: float) -> None:
        """Take up a new connection: ask for everything that is wanted."""
        self.disconnected()
        self.is_connected = True
        self.has_served = False
        for pack in self._packs:
            self._request(pack, now)
        for event_id in self._outbox:
            self._transmit(event_id)

    def disconnected(self) -> None:
        """Forget what belonged to the connection."""
        self.is_connected = False
        self._auth = Auth(self.url, self._keys)
        self._divisions = 0
        self._prompt_renewals = 0
        self._refused.clear()
        self._ready.clear()
        self._unanswered.clear()
        self._silences.clear()
        self._before_auth.clear()
        self._to_request.clear()
        self._to_send.clear()
        self._to_publish.clear()
        for outgoing in self._outbox.values():
            outgoing.sent = outgoing.awaits_auth = outgoing.was_refused_for_auth = False

    def receive(self, text: str, now: float) -> Event | Published | NoticeReceived | None:
        """Take one frame from the relay.

        Args:
            text: the frame.
            now: Unix seconds.

        Returns:
            An event of an inbox (signature unchecked), the result of a publication, words for people,
            or nothing that the caller has to know.

        Raises:
            MessageError: the frame is no relay message.

        """
        message = parse_relay_message(text)
        match message:
            case EventReceived(subscription_id, event):
                return event if self._packs.get(subscription_id) else None
            case OkReceived(event_id, accepted, reason):
                return self._on_ok(event_id, accepted, reason, now)
            case EoseReceived(subscription_id):
                self._on_eose(subscription_id)
            case ClosedReceived(subscription_id, reason):
                return self._on_closed(subscription_id, reason, now)
            case AuthReceived(challenge):
                self._before_auth = {pack.subscription_id for pack in self._packs}
                self._auth.challenged(challenge, now)
            case NoticeReceived():
                return message
        return None

    def tick(self, now: float) -> list[Published]:
        """Re-send what is due and give up what is past its deadline.

        Returns:
            The publications given up.

        """
        if self._auth.tick(now):
            self._after_auth(now)
        for subscription_id, refused in list(self._refused.items()):
            pack = self._packs.get(subscription_id)
            if pack and refused.retry_at is not None and now >= refused.retry_at:
                if refused.awaits_auth:
                    self._auth.ask((i.recipient for i in pack.inboxes.values()), again=True)
                refused.awaits_auth = False
                self._request(pack, now)
        self._ask_again_for_unanswered(now)
        late = [i for i, outgoing in self._outbox.items() if now >= outgoing.deadline_at]
        return [self._give_up(event_id) for event_id in late]

    def clock_moved(self, by_s: float, now: float) -> None:
        """Take note that the clock was set.

        Args:
            by_s: how much later it shows now; less than 0 when it was set back.
            now: Unix seconds, by the clock as it is now.

        """
        self._auth.clock_moved(by_s)
        for outgoing in self._outbox.values():
            outgoing.deadline_at += by_s
        for refused in self._refused.values():
            if refused.retry_at is not None:
                refused.retry_at += by_s
        for subscription_id in self._unanswered:
            self._unanswered[subscription_id] += by_s
        if by_s < 0:  # a `since` may lie ahead now: the relay would keep everything back until then
            for pack in self._packs:
                if not self._is_closed(pack.subscription_id):
                    self._request(pack, now)

    def give_up(self) -> list[Published]:
        """Give up all publications, at the end."""
        return [self._give_up(event_id) for event_id in list(self._outbox)]

    @property
    def is_unanswered(self) -> bool:
        """True while the relay has left a REQ unanswered for so long that it is asked again."""
        return bool(self._silences)

    @property
    def has_data_to_send(self) -> bool:
        """Tell whether there are frames to send."""
        return bool(self._auth.has_frames or self._to_request or self._to_send or self._to_publish)

    def data_to_send(self) -> list[str]:
        """Return some of the frames to send, in order, and forget them: AUTH, then REQ, then the rest.

        A subscription waits until all AUTH is sent, so that the relay knows us. Events do not.
        """
        frames = self._auth.frames()
        if self._to_request and not self._auth.has_frames:
            frames += self._requests()
        frames += self._to_send
        frames += (self._outbox[event_id].message for event_id in self._to_publish)
        self._to_send.clear()
        self._to_publish.clear()
        return frames

    # Inside

    def _requests(self) -> list[str]:
        requests = [
            req_message(pack.subscription_id, pack.filter(self._kinds, int(now) - self._reach_s))
            for subscription_id, now in self._to_request.items()
            if (pack := self._packs.get(subscription_id))
        ]
        self._to_request.clear()
        return requests

    def _keys(self) -> Iterator[KeyPair]:
        """Return the keys that have something to do here."""
        yield from (inbox.recipient for inbox in self._packs.inboxes())
        yield from (o.signer for o in self._outbox.values() if o.signer is not None)

    def _send(self, message: str) -> None:
        if self.is_connected:
            self._to_send.append(message)

    def _request(self, pack: Pack, now: float) -> None:
        if self.is_connected:
            self._to_request[pack.subscription_id] = now
            delay = UNANSWERED_FIRST_S * 2 ** min(self._silences[pack.subscription_id], 10)
            self._unanswered[pack.subscription_id] = now + min(delay, UNANSWERED_MAX_S)
            if refused := self._refused.get(pack.subscription_id):
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
            reason = "the relay wants AUTH, and has not taken ours"
        return Published(event_id, accepted=False, reason=reason)

    def _remove(self, event_id: str) -> _Outgoing:
        outgoing = self._outbox.pop(event_id)
        self._to_publish.pop(event_id, None)
        self._outbox_characters -= len(outgoing.message)
        return outgoing

    def _is_closed(self, subscription_id: str) -> bool:
        """Tell whether the relay has closed a subscription that has not been asked for again."""
        refused = self._refused.get(subscription_id)
        return refused is not None and refused.retry_at is not None

    def _on_eose(self, subscription_id: str) -> None:
        if self._packs.get(subscription_id) and not self._is_closed(subscription_id):
            self._ready.add(subscription_id)
            self.has_served = True
            self._refused.pop(subscription_id, None)
            self._answered(subscription_id)

    def _answered(self, subscription_id: str) -> None:
        """Wait no more for an answer to a REQ."""
        self._unanswered.pop(subscription_id, None)
        del self._silences[subscription_id]  # a Counter takes that also where there is none

    def _ask_again_for_unanswered(self, now: float) -> None:
        for subscription_id, at in list(self._unanswered.items()):
            pack = self._packs.get(subscription_id)
            if pack and now >= at:
                self._silences[subscription_id] += 1
                self._request(pack, now)

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
            self._auth.required()
            if is_first and self._auth.is_settled:  # the relay looked at the event before the AUTH
                self._transmit(event_id)
            return None
        self._remove(event_id)
        self.has_served |= accepted
        return Published(event_id, accepted or reason.startswith("duplicate:"), reason)

    def _on_closed(self, subscription_id: str, reason: str, now: float) -> NoticeReceived | None:
        pack = self._packs.get(subscription_id)
        if pack is None:
            return None
        self._ready.discard(subscription_id)
        self._answered(subscription_id)
        refused = self._refused.setdefault(subscription_id, _Subscription())
        refused.awaits_auth = reason.startswith(_AUTH_REQUIRED)
        notice = NoticeReceived(f"subscription closed: {reason}")
        if refused.retry_at is not None:  # said again before we asked again, it puts nothing off
            return notice
        delay = RESUBSCRIBE_FIRST_S * 2 ** min(refused.refusals, 10)
        refused.retry_at = now + min(delay, RESUBSCRIBE_MAX_S)
        refused.refusals += 1
        if self._auth.is_settled or refused.refusals > 1:
            self._on_closed_after_auth(pack, refused, reason, now)
        return notice

    # NIP-42

    def _after_auth(self, now: float) -> None:
        """Ask again for what the relay wanted AUTH for, once it has answered for every key."""
        if not self._auth.is_settled:
            return
        for subscription_id, refused in self._refused.items():
            pack = self._packs.get(subscription_id)
            if pack and refused.awaits_auth:
                refused.awaits_auth = False
                self._request(pack, now)
        for event_id, outgoing in self._outbox.items():
            if outgoing.awaits_auth:
                self._transmit(event_id)
        if not self._auth.is_unfinished:
            self._ask_again_after_auth(now)

    def _ask_again_after_auth(self, now: float) -> None:
        before_auth, self._before_auth = self._before_auth, set()
        for subscription_id in before_auth:
            pack = self._packs.get(subscription_id)
            if pack and subscription_id not in self._refused:  # that is asked for at its own time
                self._request(pack, now)

    def _on_closed_after_auth(self, pack: Pack, refused: _Subscription, reason: str, now: float) -> None:
        """Find out what a relay wants that knows us already and closes a subscription all the same."""
        if reason.startswith((_AUTH_REQUIRED, _RESTRICTED)) and self._divide(pack, refused, now):
            return
        is_first = refused.awaits_auth and refused.refusals == 1
        if is_first and self._prompt_renewals < MAX_PROMPT_RENEWALS:
            # In the middle of a session: it has forgotten us. The challenge is still good (NIP-42).
            self._prompt_renewals += 1
            refused.retry_at = now

    def _divide(self, pack: Pack, refused: _Subscription, now: float) -> bool:
        """Part a subscription that is refused on account of some of its keys; tells whether it was.

        Some relays want every key in `#p` to be one that they serve. Those whose AUTH was refused go
        into a subscription of their own. "restricted:" does not say which keys it means: one half goes.
        """
        keys = list(pack.inboxes)
        leaving = [key for key in keys if key in self._auth.refused]
        if not leaving and not refused.awaits_auth:
            leaving = keys[len(keys) // 2 :]
        if not 0 < len(leaving) < len(keys) or self._divisions >= MAX_DIVISIONS:
            return False
        self._divisions += 1
        for part in (pack, self._packs.divide(pack, leaving)):
            self._request(part, now)
        del self._refused[pack.subscription_id]
        return True
