"""Anything at all, at each layer of the way of a request: no input crashes the plugin, blocks it, or
reaches lightningd unbounded. HYPOTHESIS_PROFILE=long looks longer.

All examples of a test come to one plugin, which has to answer an honest request in between.
"""

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from nwc.nip47.encryption import Encryption
from nwc.nip47.kinds import KIND_REQUEST
from nwc.nostr import nip04, nip44
from nwc.nostr.event import sign_event
from nwc.nostr.messages import MAX_MESSAGE_LENGTH
from tests.double import plans
from tests.unit.fuzz import strategies
from tests.unit.fuzz.strategies import STRANGER, WantedEvent
from tests.unit.fuzz.way import CONNECTIONS, Client, RawText, Way, event_frame

looked_at = settings(
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
schemes = st.sampled_from(Encryption)
names = st.sampled_from(sorted(CONNECTIONS))
BALANCE = '{"method":"get_balance"}'
MAX_AGE_S = 120
numbers = itertools.count()
# Else a warning takes the place of what was found.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    """One plugin for all tests, with invoices of others that it can pay."""
    here = Path.cwd()
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(here)  # and back: the double goes to its directory
        way = Way(tmp_path_factory.mktemp("way"))
        for payable in strategies.payables():
            plans.keep_preimage(way.double.state, payable.preimage)
        yield way
        way.still_honest()
        way.close()


# An honest frame to damage; nobody here can sign it anew.
HONEST = event_frame(
    sign_event(
        STRANGER,
        kind=KIND_REQUEST,
        content="x",
        tags=[["p", STRANGER.public_key]],
        created_at=1,
    )
)


@looked_at
@given(strategies.frames(HONEST) | st.binary(max_size=50))
def test_frames(way: Way, frame: str | bytes) -> None:
    """What a relay may send: nothing of it is a request."""
    assert way.take(frame) == []


@looked_at
@given(st.data())
def test_damaged_requests(way: Way, data: st.DataObject) -> None:
    """A frame of the real client with something changed: its answer is the only one there is."""
    client = way.clients["receives"]
    request = client.request(BALANCE)
    honest = event_frame(request)
    damaged = strategies.damaged(st.just(honest)) | strategies.fields_changed(honest)
    for answer in way.take(data.draw(damaged)):  # what was changed may have changed nothing
        assert client.open(answer, request)["result"] == {"balance": 0}


@looked_at
@given(strategies.events, names)
def test_events(way: Way, wanted: WantedEvent, name: str) -> None:
    """What the known client may sign: silence, or one answer."""
    client = way.clients[name]
    scheme = Encryption(wanted.scheme)
    content = client.encrypt(scheme, BALANCE) if wanted.content is None else wanted.content
    p_tag = ["p", client.wallet_pubkey]
    tags = [p_tag, *wanted.tags] if wanted.p_first else [*wanted.tags, p_tag]
    tags.insert(0, ["n", str(next(numbers))])  # else the same content again is the same event
    created_at = max(0, int(time.time()) - wanted.age)
    request = client.event(content, tags[:256], kind=wanted.kind, created_at=created_at)
    answers = way.take(event_frame(request))
    assert len(answers) == is_answered(wanted, tags, client)
    for answer in answers:
        client.open(answer, request)


def is_answered(wanted: WantedEvent, tags: list[list[str]], client: Client) -> int:
    """Return how many answers an event is to have."""
    first = {tag[0]: tag[1] if len(tag) > 1 else None for tag in reversed(tags)}
    is_for_us = any(tag[:2] == ["p", client.wallet_pubkey] for tag in tags[:256])
    if not is_for_us or wanted.kind != KIND_REQUEST or abs(wanted.age) > MAX_AGE_S:
        return 0
    expiration = first.get("expiration") or ""
    if (
        expiration.isascii()
        and expiration.isdigit()
        and len(expiration) < 13
        and int(expiration) < time.time()
    ):
        return 0
    return 1


def longest(scheme: Encryption) -> int:
    """Return what can be encrypted, and comes in a frame that is looked at."""
    if scheme is Encryption.NIP44_V2:
        return nip44.MAX_PLAINTEXT_LENGTH
    return nip04.MAX_PLAINTEXT_LENGTH


@looked_at
@given(strategies.plaintexts, schemes, names)
def test_plaintexts(way: Way, plaintext: str | bytes, scheme: Encryption, name: str) -> None:
    """What the known client may encrypt: all of it is answered, once."""
    client = way.clients[name]
    data = plaintext if isinstance(plaintext, bytes) else plaintext.encode(errors="surrogatepass")
    data = data[: longest(scheme)] or b" "
    request = client.request(RawText(data), scheme)
    answers = way.take(event_frame(request))
    assert len(event_frame(request)) <= MAX_MESSAGE_LENGTH
    assert len(answers) == 1
    for answer in answers:
        client.open(answer, request)


@settings(looked_at, max_examples=4 * settings().max_examples)
@given(strategies.requests(), schemes, names)
def test_requests(way: Way, asked: object, scheme: Encryption, name: str) -> None:
    """What an app may ask for: one answer to each, and nothing to lightningd that is out of bounds."""
    client = way.clients[name]
    text = strategies.spelled(asked)
    if len(text.encode()) <= longest(scheme):
        way.ask(client, client.request(text, scheme))


@looked_at
@given(st.lists(strategies.requests(), min_size=2, max_size=12), names)
def test_requests_at_once(way: Way, asked: list[object], name: str) -> None:
    """Many requests in one breath, each twice: one answer to each, whatever they do to each other."""
    client = way.clients[name]
    texts = [strategies.spelled(one) for one in asked]
    requests = [
        client.request(text) for text in texts if len(text.encode()) <= nip44.MAX_PLAINTEXT_LENGTH
    ]
    answers = way.take(*(event_frame(request) for request in (*requests, *requests)))
    by_id = {answer.tag("e"): answer for answer in answers}
    assert len(answers) == len(by_id) == len({request.id for request in requests})
    for request in requests:
        client.open(by_id[request.id], request)


def test_answers_are_json(way: Way) -> None:
    """The table of the strict node would pass nothing that is not there."""
    client = way.clients["owner"]
    body = way.ask(client, client.request(json.dumps({"method": "list_transactions"})))
    assert body["result"]["transactions"]
