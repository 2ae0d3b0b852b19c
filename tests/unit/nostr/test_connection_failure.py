"""Every failure of a connection is described by a text that an owner can act on."""

import errno
import os
import socket
import ssl

import pytest
from python_socks import ProxyConnectionError
from websockets.datastructures import Headers
from websockets.exceptions import (
    ConnectionClosedError,
    ConnectionClosedOK,
    InvalidMessage,
    InvalidStatus,
    InvalidUpgrade,
    ProxyError,
    SecurityError,
)
from websockets.frames import Close
from websockets.http11 import Response

from nwc.nostr.connection_failure import describe_failure


def describe(error: BaseException, *, has_proxy: bool = False) -> str:
    return describe_failure(error, has_proxy=has_proxy)


def status(code: int) -> InvalidStatus:
    return InvalidStatus(Response(code, "words of a stranger", Headers()))


def not_trusted(reason: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] …")
    error.verify_message = reason
    return error


def no_tls() -> ssl.SSLError:
    error = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)")
    error.reason = "WRONG_VERSION_NUMBER"
    return error


# asyncio raises this if none of several addresses can be reached.
SEVERAL = OSError(
    "Multiple exceptions: [Errno 101] Connect call failed ('2001:db8::1', 443, 0, 0), "
    "[Errno 113] Connect call failed ('192.0.2.1', 443)"
)

FAILURES: list[tuple[BaseException, str]] = [
    (TimeoutError(), "no answer in time: the relay or this node's network is down or very slow"),
    (
        TimeoutError(errno.ETIMEDOUT, "x"),
        "no answer in time: the relay or this node's network is down or very slow",
    ),
    (
        UnicodeError("label empty or too long"),
        "the relay's URL has an invalid host name: check the URL",
    ),
    (
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        "the relay's host name cannot be resolved (Name or service not known): check its URL and this "
        "node's DNS",
    ),
    (
        not_trusted("certificate has expired"),
        "the relay's TLS certificate is not valid (certificate has expired): its operator must fix "
        "that, or this node's clock is wrong",
    ),
    (no_tls(), "TLS failed (WRONG_VERSION_NUMBER): does the relay support wss:// on this port?"),
    (
        ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('192.0.2.1', 443)"),
        "connection refused: no relay is listening at this address",
    ),
    (OSError(errno.ENETUNREACH, "Connect call failed ('192.0.2.1', 443)"), "network is unreachable"),
    (SEVERAL, "network is unreachable and no route to host"),
    (ConnectionResetError(errno.ECONNRESET, "x"), "connection reset by peer"),
    (OSError("words of our own"), "words of our own"),
    (OSError(), "OSError"),
    (
        ProxyError("x"),
        "lightningd's proxy cannot reach the relay: it may be down, or its URL may be wrong",
    ),
    (
        SecurityError("more than 16384 bytes of headers"),
        "the server is not a relay (its handshake is too long): check the relay's URL",
    ),
    (
        InvalidMessage("did not receive a valid HTTP response"),
        "the server is not a relay (no WebSocket handshake): check the relay's URL",
    ),
    (
        InvalidUpgrade("Connection", "x"),
        "the server is not a relay (no WebSocket handshake): check the relay's URL",
    ),
    (
        status(301),
        "HTTP status 301: the relay has moved, and the plugin follows no redirect: ask its operator for "
        "the new URL",
    ),
    (
        status(403),
        "HTTP status 403: the relay refuses this node; it may want an account, or block its address "
        "(Tor, VPN)",
    ),
    (
        status(200),
        "HTTP status 200: there is no relay at this address: check host, port and path of the relay's "
        "URL",
    ),
    (
        status(404),
        "HTTP status 404: there is no relay at this address: check host, port and path of the relay's "
        "URL",
    ),
    (
        status(429),
        "HTTP status 429: too many connections from this node's address; still retrying",
    ),
    (status(502), "HTTP status 502: the relay has a server error; still retrying"),
    (AssertionError(), "unexpected error (AssertionError): please report it"),
]


@pytest.mark.parametrize(("error", "expected"), FAILURES, ids=lambda value: str(value)[:20])
def test_a_failure_has_its_text(error: BaseException, expected: str) -> None:
    assert describe(error) == expected


def test_a_proxy_is_named_if_one_is_used() -> None:
    error = ProxyConnectionError(errno.ECONNREFUSED, "Could not connect to proxy 127.0.0.1:9050 […]")
    refused = os.strerror(errno.ECONNREFUSED).lower()
    assert describe(error, has_proxy=True) == (
        f"lightningd's proxy cannot be reached ({refused}): is it running?"
    )
    assert "lightningd's proxy" in describe(TimeoutError(), has_proxy=True)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionClosedOK(Close(1000, ""), Close(1000, ""), True), "the relay closed the connection"),
        (ConnectionClosedOK(Close(1001, ""), Close(1001, ""), True), "the relay closed the connection"),
        (
            ConnectionClosedOK(Close(1001, "restart\nnow"), Close(1001, ""), True),
            "the relay closed the connection (code 1001: restart?now)",
        ),
        (
            ConnectionClosedError(Close(1008, "blocked: pay first"), Close(1008, ""), True),
            "the relay closed the connection (code 1008: blocked: pay first)",
        ),
        (
            ConnectionClosedError(Close(4000, ""), None, None),
            "the relay closed the connection (code 4000)",
        ),
        (
            ConnectionClosedError(None, None, None),
            "the connection was lost: the relay or this node's network is down",
        ),
        (
            ConnectionClosedError(None, Close(1011, "keepalive ping timeout"), None),
            "the relay did not answer a ping for 20 seconds: it hangs, or this node's network is down",
        ),
        (
            ConnectionClosedError(None, Close(1009, "frame too big"), None),
            "connection closed: the relay violated the WebSocket protocol (code 1009)",
        ),
        (
            ConnectionClosedError(Close(1009, ""), Close(1009, "frame too big"), False),
            "connection closed: the relay violated the WebSocket protocol (code 1009)",
        ),
    ],
)
def test_the_end_of_a_connection_has_its_text(error: BaseException, expected: str) -> None:
    assert describe(error) == expected
