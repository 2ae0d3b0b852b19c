"""Why a connection to a relay failed or ended, in words that tell the owner what to do."""

import os
import re
import socket
import ssl

from python_socks import ProxyConnectionError
from websockets.exceptions import ConnectionClosed, InvalidStatus, ProxyError, WebSocketException

from nwc.nostr.messages import printable

# As websockets names it to the peer.
_NO_PONG = "keepalive ping timeout"
_MAX_WORDS = 200

_HTTP_HINTS = {
    401: "the relay refuses this node; it may want an account",
    402: "the relay refuses this node; it may want to be paid",
    403: "the relay refuses this node; it may want an account, or block its address (Tor, VPN)",
    429: "too many connections from this node's address; it is tried again later",
    451: "the relay refuses this node; it may block its address (Tor, VPN)",
}


def describe_failure(error: BaseException, *, has_proxy: bool) -> str:
    """Return in one sentence why a connection failed, without a hostile relay's control characters.

    Args:
        error: what was raised.
        has_proxy: whether the connection goes through lightningd's proxy.

    """
    if isinstance(error, WebSocketException):
        return _describe_websocket(error)
    if isinstance(error, OSError):
        return _describe_network(error, has_proxy=has_proxy)
    if isinstance(error, UnicodeError):
        return "the host in the relay's URL cannot be a host name: check the relay's URL"
    return f"unexpected error ({type(error).__name__}): please report it"


def _describe_websocket(error: WebSocketException) -> str:
    match error:
        case ConnectionClosed():
            return _describe_end(error)
        case InvalidStatus():
            code = error.response.status_code
            return f"HTTP status {code}: {_http_hint(code)}"
        case ProxyError():
            return "lightningd's proxy cannot reach the relay: it may be down, or its URL wrong"
        case _:
            return "what answers there is no relay (no WebSocket handshake): check the relay's URL"


def _describe_network(error: OSError, *, has_proxy: bool) -> str:
    match error:
        case ProxyConnectionError():
            return f"lightningd's proxy cannot be reached ({_words(error)}): is it running?"
        case TimeoutError():
            place = "the relay, lightningd's proxy" if has_proxy else "the relay"
            return f"no answer in time: {place} or this node's network is down or very slow"
        case ssl.SSLCertVerificationError():
            return (
                f"the relay's TLS certificate is not valid ({error.verify_message}): its operator has "
                "to mend that, or this node's clock is wrong"
            )
        case ssl.SSLError():
            return f"TLS failed ({error.reason or 'unknown reason'}): does the relay speak wss:// there?"
        case socket.gaierror():
            return (
                f"the relay's host name cannot be resolved ({error.strerror}): check its URL, or this "
                "node's DNS"
            )
        case ConnectionRefusedError():
            return "connection refused: no relay listens there now"
        case _:
            return _words(error)


def _describe_end(error: ConnectionClosed) -> str:
    """Describe the end of a connection that was open."""
    # What the relay said first counts; where it said nothing, what we said to it.
    if (said := error.rcvd) is not None and (error.sent is None or error.rcvd_then_sent):
        words = f": {printable(said.reason)}" if said.reason else ""
        is_plain = said.code in (1000, 1001) and not words
        detail = "" if is_plain else f" (code {said.code}{words})"
        return f"the relay closed the connection{detail}"
    if error.sent is None:
        return "the connection broke off: the relay or this node's network went away"
    if error.sent.reason == _NO_PONG:
        return "the relay answered no ping for 20 seconds: it hangs, or this node's network is down"
    return f"the relay broke the rules of WebSocket (code {error.sent.code}), so the plugin hung up"


def _http_hint(code: int) -> str:
    if code in _HTTP_HINTS:
        return _HTTP_HINTS[code]
    if 300 <= code < 400:
        return "the relay has moved, and the plugin follows nobody: ask its operator for the URL"
    if code >= 500:
        return "the relay is out of order; it is tried again"
    return "there is no relay at this address: check host, port and path of its URL"


def _words(error: OSError) -> str:
    """Return the operating system's words; asyncio puts its own in their place."""
    numbers = [error.errno] if error.errno else _numbers(str(error))
    words = " and ".join(dict.fromkeys(os.strerror(number) for number in numbers))
    return words.lower() or str(error)[:_MAX_WORDS] or type(error).__name__


def _numbers(text: str) -> list[int]:
    """Return the errno of each address that asyncio has tried."""
    return [int(number) for number in re.findall(r"\[Errno (\d{1,3})\]", text)]
