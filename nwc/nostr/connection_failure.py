"""Texts that explain why a connection to a relay failed or ended, and what the owner can do."""

import os
import re
import socket
import ssl

from python_socks import ProxyConnectionError
from websockets.exceptions import (
    ConnectionClosed,
    InvalidStatus,
    ProxyError,
    SecurityError,
    WebSocketException,
)

from nwc.nostr.messages import printable
from nwc.nostr.relay_socket import NO_PONG

_MAX_TEXT_LENGTH = 200

_HTTP_HINTS = {
    401: "the relay refuses this node; it may want an account",
    402: "the relay refuses this node; it may want to be paid",
    403: "the relay refuses this node; it may want an account, or block its address (Tor, VPN)",
    429: "too many connections from this node's address; still retrying",
    451: "the relay refuses this node; it may block its address (Tor, VPN)",
}


def describe_failure(error: BaseException, *, has_proxy: bool) -> str:
    """Return one sentence that says why a connection failed, without control characters from the relay.

    Args:
        error: the exception that was raised.
        has_proxy: True if the connection goes through lightningd's proxy.

    """
    if isinstance(error, WebSocketException):
        return _describe_websocket(error)
    if isinstance(error, OSError):
        return _describe_network(error, has_proxy=has_proxy)
    if isinstance(error, UnicodeError):
        return "the relay's URL has an invalid host name: check the URL"
    return f"unexpected error ({type(error).__name__}): please report it"


def _describe_websocket(error: WebSocketException) -> str:
    match error:
        case ConnectionClosed():
            return _describe_end(error)
        case InvalidStatus():
            code = error.response.status_code
            return f"HTTP status {code}: {_http_hint(code)}"
        case ProxyError():
            return "lightningd's proxy cannot reach the relay: it may be down, or its URL may be wrong"
        case SecurityError():
            return "the server is not a relay (its handshake is too long): check the relay's URL"
        case _:
            return "the server is not a relay (no WebSocket handshake): check the relay's URL"


def _describe_network(error: OSError, *, has_proxy: bool) -> str:
    match error:
        case ProxyConnectionError():
            return f"lightningd's proxy cannot be reached ({_os_error_text(error)}): is it running?"
        case TimeoutError():
            place = "the relay, lightningd's proxy" if has_proxy else "the relay"
            return f"no answer in time: {place} or this node's network is down or very slow"
        case ssl.SSLCertVerificationError():
            return (
                f"the relay's TLS certificate is not valid ({error.verify_message}): its operator must "
                "fix that, or this node's clock is wrong"
            )
        case ssl.SSLError():
            reason = error.reason or "unknown reason"
            return f"TLS failed ({reason}): does the relay support wss:// on this port?"
        case socket.gaierror():
            return (
                f"the relay's host name cannot be resolved ({error.strerror}): check its URL and this "
                "node's DNS"
            )
        case ConnectionRefusedError():
            return "connection refused: no relay is listening at this address"
        case _:
            return _os_error_text(error)


def _describe_end(error: ConnectionClosed) -> str:
    """Return why an open connection ended."""
    # The relay's close code, if it closed first; else ours.
    if (close := error.rcvd) is not None and (error.sent is None or error.rcvd_then_sent):
        reason = f": {printable(close.reason)}" if close.reason else ""
        is_plain = close.code in (1000, 1001) and not reason
        detail = "" if is_plain else f" (code {close.code}{reason})"
        return f"the relay closed the connection{detail}"
    if error.sent is None:
        return "the connection was lost: the relay or this node's network is down"
    if error.sent.reason == NO_PONG:
        return "the relay did not answer a ping for 20 seconds: it hangs, or this node's network is down"
    return f"connection closed: the relay violated the WebSocket protocol (code {error.sent.code})"


def _http_hint(code: int) -> str:
    if code in _HTTP_HINTS:
        return _HTTP_HINTS[code]
    if 300 <= code < 400:
        return (
            "the relay has moved, and the plugin follows no redirect: ask its operator for the new URL"
        )
    if code >= 500:
        return "the relay has a server error; still retrying"
    return "there is no relay at this address: check host, port and path of the relay's URL"


def _os_error_text(error: OSError) -> str:
    """Return the operating system's text for an error, which asyncio replaces by its own."""
    # In asyncio's text there is a number for each address that it tried.
    numbers = [error.errno] if error.errno else re.findall(r"\[Errno (\d{1,3})\]", str(error))
    text = " and ".join(dict.fromkeys(os.strerror(int(number)) for number in numbers))
    return text.lower() or str(error)[:_MAX_TEXT_LENGTH] or type(error).__name__
