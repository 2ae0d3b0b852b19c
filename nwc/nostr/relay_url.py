"""Parse relay URLs. They keep the owner's spelling and are compared as strings afterwards."""

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

MAX_URL_LENGTH = 255

_DEFAULT_PORTS = {"ws": 80, "wss": 443}
_RULE = "a relay URL is wss://host[:port][/path] (or ws://…)"
# A name that DNS can resolve: labels of at most 63 characters (RFC 1035 section 2.3.4) with one dot
# between them. Host names must not contain an underscore, but some names in use do.
_HOST = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?")


def parse_relay_url(text: object) -> str:
    """Return a relay URL as the owner gave it, with scheme and host in lower case.

    We sign this URL for NIP-42, and some relays compare it letter by letter. So we neither add nor
    remove a slash at its end or a default port.

    Args:
        text: what a person typed, or the value of an option.

    Raises:
        ValueError: names the URL, what is wrong with it and what is allowed.

    """
    _refuse_several(text)
    url = parse_stored_relay_url(text)
    parts = urlsplit(url)
    host = parts.hostname or ""
    if ":" not in host and not _HOST.fullmatch(host):
        raise ValueError(
            f"{_RULE}, where the host has letters, digits, '-' and single dots, or is an IP address; "
            f"got {url!r}"
        )
    if parts.netloc.endswith(":"):
        raise ValueError(f"{_RULE}; the port after ':' is missing in {url!r}")
    return url


def parse_relay_urls(texts: Iterable[object]) -> tuple[str, ...]:
    """Return relay URLs in order, and only the first of several spellings of the same relay.

    Raises:
        ValueError: as `parse_relay_url`.

    """
    relays: dict[str, str] = {}
    for text in texts:
        url = parse_relay_url(text)
        relays.setdefault(_identity(url), url)
    return tuple(relays.values())


def parse_stored_relay_url(text: object) -> str:
    """Return a relay URL that an earlier version of the plugin may have stored.

    It checks less than `parse_relay_url`: one bad URL must not keep a connection from being served over
    its other relays.

    Raises:
        ValueError: names the URL, what is wrong with it and what is allowed.

    """
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{_RULE}; got {text!r}")
    text = text.strip()
    if len(text) > MAX_URL_LENGTH:
        raise ValueError(f"{_RULE} of at most {MAX_URL_LENGTH} characters; got {len(text)}")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f"{_RULE} in printable ASCII without spaces; got {text!r}")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{_RULE}; got {text!r}: {error}") from None
    if parts.scheme.lower() not in ("ws", "wss"):
        raise ValueError(f"{_RULE}; got {text!r}")
    if not parts.hostname or port == 0:
        raise ValueError(f"{_RULE}; got {text!r}: no host, or port 0")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ValueError(
            f"{_RULE}, without user name, password or fragment; got a URL with one of these"
        )
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme.lower()}://{parts.netloc.lower()}{parts.path}{query}"


def is_same_relay(url: str, other: str) -> bool:
    """Return True if two URLs name the same relay; a default port and a lone slash do not count."""
    return _identity(url) == _identity(other)


def is_onion(url: str) -> bool:
    """Return True if the relay is a Tor onion service, which only a proxy can reach."""
    # A name with a dot at its end means the same host.
    return (urlsplit(url).hostname or "").rstrip(".").endswith(".onion")


# Names that no public resolver has: RFC 6761, RFC 6762 with its appendix G, RFC 8375, and those of
# /etc/hosts in some distributions.
_LOCAL_SUFFIXES = (
    *("localhost", "localdomain", "local", "home.arpa"),
    *("internal", "intranet", "private", "corp", "home", "lan"),
)
# Resolvers read a host as an IPv4 address if its last label is a number, also as 127.1 or 0x7f000001.
_NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*")

# All that IANA has given out for the Internet (RFC 4291, section 2.4). `is_global` is also true of most
# of the rest, of ::127.0.0.1 for example.
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")


def is_local(url: str) -> bool:
    """Return True if the host of a relay URL is this machine or in a private network, as far as it says.

    No name is resolved: a public name can still have a private address.
    """
    host = (urlsplit(url).hostname or "").rstrip(".")
    try:
        address = ip_address(host)
    except ValueError:
        labels = host.split(".")
        is_number = _NUMERIC_LABEL.fullmatch(labels[-1]) is not None
        return is_number or len(labels) == 1 or any(host.endswith("." + s) for s in _LOCAL_SUFFIXES)
    return not _is_public(address)


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
        if inner and not _is_public(inner):
            return False
        # NAT64 (RFC 6052): the last 32 bits are an IPv4 address, public or not.
        if address in _NAT64:
            return _is_public(IPv4Address(int(address) & 0xFFFF_FFFF))
        if address not in _GLOBAL_UNICAST:
            return False
    return address.is_global and not address.is_multicast


def _refuse_several(text: object) -> None:
    """Check that a text does not look like more than one URL.

    Raises:
        ValueError: it does; the text names the probable mistake.

    """
    if not isinstance(text, str) or text.count("://") < 2 or len(text) > MAX_URL_LENGTH:
        return
    if re.match(r"\s*wss?://\w+://", text, re.IGNORECASE):
        raise ValueError(f"{_RULE}; {text!r} has two schemes")
    if re.search(r"[,;\s]\s*wss?://", text, re.IGNORECASE):
        raise ValueError(f"{_RULE}; {text!r} has several URLs, give each as a separate value")


def _identity(url: str) -> str:
    parts = urlsplit(url)
    port = parts.port or _DEFAULT_PORTS[parts.scheme]
    path = "" if parts.path == "/" else parts.path
    return f"{parts.scheme}://{parts.hostname}:{port}{path}?{parts.query}"
