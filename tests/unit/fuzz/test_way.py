"""Any input at each layer of a request: none crashes or blocks the plugin, none is passed on unbounded.

All examples go to one plugin, which must answer honest requests in between. HYPOTHESIS_PROFILE=long
tries more examples.
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

fuzzed = settings(
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
schemes = st.sampled_from(Encryption)
names = st.sampled_from(sorted(CONNECTIONS))
BALANCE = '{"method":"get_balance"}'
MAX_AGE_S = 120
numbers = itertools.count()
# Otherwise this warning would hide the failure.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    """One plugin for all tests, which can pay invoices of other nodes."""
    here = Path.cwd()
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(here)  # the double changes the working directory; this restores it
        way = Way(tmp_path_factory.mktemp("way"))
        for payable in strategies.payables():
            plans.keep_preimage(way.double.state, payable.preimage)
        yield way
        way.check_honest_request()
        way.close()


# An honest frame to damage; no test can sign the damaged event.
HONEST = event_frame(
    sign_event(
        STRANGER,
        kind=KIND_REQUEST,
        content="x",
        tags=[["p", STRANGER.public_key]],
        created_at=1,
    )
)


@fuzzed
@given(strategies.frames(HONEST) | st.binary(max_size=50))
def test_no_frame_without_the_clients_key_is_answered(way: Way, frame: str | bytes) -> None:
    """A relay can send any frame. Without the client's key none of them is a request."""
    assert way.deliver(frame) == []


@fuzzed
@given(st.data())
def test_a_damaged_request_gets_no_other_answer(way: Way, data: st.DataObject) -> None:
    """A damaged frame of the client is ignored, unless it still holds the honest request."""
    client = way.clients["receives"]
    request = client.request(BALANCE)
    honest = event_frame(request)
    damaged = strategies.damaged(st.just(honest)) | strategies.fields_changed(honest)
    for answer in way.deliver(data.draw(damaged)):  # the damage may have no effect
        assert client.open(answer, request)["result"] == {"balance": 0}


@fuzzed
@given(strategies.events, names)
def test_an_event_gets_at_most_one_answer(way: Way, wanted: WantedEvent, name: str) -> None:
    """Any event that the client signs gets one answer, or none where it must be ignored."""
    client = way.clients[name]
    scheme = Encryption(wanted.scheme)
    content = client.encrypt(scheme, BALANCE) if wanted.content is None else wanted.content
    p_tag = ["p", client.wallet_pubkey]
    tags = [p_tag, *wanted.tags] if wanted.p_first else [*wanted.tags, p_tag]
    tags.insert(0, ["n", str(next(numbers))])  # otherwise the same content makes the same event
    created_at = max(0, int(time.time()) - wanted.age)
    request = client.event(content, tags[:256], kind=wanted.kind, created_at=created_at)
    answers = way.deliver(event_frame(request))
    assert len(answers) == expected_answers(wanted, tags, client)
    for answer in answers:
        client.open(answer, request)


def expected_answers(wanted: WantedEvent, tags: list[list[str]], client: Client) -> int:
    """Return how many answers an event must get: 0 or 1."""
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
    """Return the longest plaintext, in bytes, whose frame the plugin still reads."""
    if scheme is Encryption.NIP44_V2:
        return nip44.MAX_PLAINTEXT_LENGTH
    return nip04.MAX_PLAINTEXT_LENGTH


@fuzzed
@given(strategies.plaintexts, schemes, names)
def test_any_plaintext_is_answered_once(
    way: Way, plaintext: str | bytes, scheme: Encryption, name: str
) -> None:
    """Any plaintext that the client encrypts is answered once."""
    client = way.clients[name]
    data = plaintext if isinstance(plaintext, bytes) else plaintext.encode(errors="surrogatepass")
    data = data[: longest(scheme)] or b" "
    request = client.request(RawText(data), scheme)
    answers = way.deliver(event_frame(request))
    assert len(event_frame(request)) <= MAX_MESSAGE_LENGTH
    assert len(answers) == 1
    for answer in answers:
        client.open(answer, request)


@settings(fuzzed, max_examples=4 * settings().max_examples)
@given(strategies.requests(), schemes, names)
def test_any_request_is_answered_once(way: Way, asked: object, scheme: Encryption, name: str) -> None:
    """Any request is answered once, and nothing unbounded reaches lightningd."""
    client = way.clients[name]
    text = strategies.spelled(asked)
    if len(text.encode()) <= longest(scheme):
        way.ask(client, client.request(text, scheme))


@fuzzed
@given(st.lists(strategies.requests(), min_size=2, max_size=12), names)
def test_requests_at_once_are_answered_once_each(way: Way, asked: list[object], name: str) -> None:
    """Each of many requests is sent twice and answered once, whatever they do to each other."""
    client = way.clients[name]
    texts = [strategies.spelled(one) for one in asked]
    requests = [
        client.request(text) for text in texts if len(text.encode()) <= nip44.MAX_PLAINTEXT_LENGTH
    ]
    answers = way.deliver(*(event_frame(request) for request in (*requests, *requests)))
    by_id = {answer.tag("e"): answer for answer in answers}
    assert len(answers) == len(by_id) == len({request.id for request in requests})
    for request in requests:
        client.open(by_id[request.id], request)


def test_transactions_of_the_node_are_listed(way: Way) -> None:
    """This shows that the strict node passes calls on to the double, and that the double has rows."""
    client = way.clients["owner"]
    body = way.ask(client, client.request(json.dumps({"method": "list_transactions"})))
    assert body["result"]["transactions"]
