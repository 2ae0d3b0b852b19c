"""Relays over TLS (wss://), as nearly all relays are."""

from collections.abc import Iterator

import pytest

from tests.support.certificate import Certificate
from tests.support.scripted_relay import ScriptedRelay
from tests.support.waiting import wait_until
from tests.wire.fixtures import Connect
from tests.wire.node import MakeNode, NodeUnderTest
from tests.wire.test_relays import relay_state
from tests.wire.test_silence import COFFEE

AT_ONCE = 30


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate.make(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def tls_relay(certificate: Certificate) -> Iterator[ScriptedRelay]:
    with ScriptedRelay(tls=certificate.server_context()) as relay:
        yield relay


@pytest.fixture
def trusting_node(
    make_node: MakeNode, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> NodeUnderTest:
    """A node on a machine that trusts the relay's certificate."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))
    return make_node()


def test_requests_over_tls_are_all_answered(
    trusting_node: NodeUnderTest, tls_relay: ScriptedRelay, connect: Connect
) -> None:
    """Each of many requests comes in a TLS record of its own, and one read takes several records."""
    app = connect(node=trusting_node, relays=tls_relay.url, channels=[tls_relay])
    requests = [app.request("make_invoice", COFFEE, tags=[["n", str(n)]]) for n in range(AT_ONCE)]
    for request in requests:
        app.send(request)
    invoices = {app.answer_to(request).result["invoice"] for request in requests}
    assert len(invoices) == AT_ONCE
    assert relay_state(trusting_node, tls_relay.url)["state"] == "connected"
    assert relay_state(trusting_node, tls_relay.url)["reconnects"] == 0


def test_an_untrusted_certificate_is_refused(
    node: NodeUnderTest, tls_relay: ScriptedRelay, connect: Connect
) -> None:
    """Anybody could answer there, so nothing is sent."""
    connect(relays=tls_relay.url, channels=[tls_relay], wait=False)
    wait_until(lambda: relay_state(node, tls_relay.url)["last_error"], "an error of the relay")
    assert "certificate" in relay_state(node, tls_relay.url)["last_error"]
    assert tls_relay.handshakes == []
