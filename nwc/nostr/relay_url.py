"""Relay URLs: parsed once at the edge into one normal form, compared as strings afterwards."""

from urllib.parse import urlsplit

MAX_URL_LENGTH = 255

_DEFAULT_PORTS = {"ws": 80, "wss": 443}
_RULE = "a relay URL is wss://host[:port][/path] (or ws://…)"


def parse_relay_url(text: object) -> str:
    """Return the normal form of a relay URL: scheme and host in lower case, no bare trailing slash.

    Args:
        text: what a person typed or an option holds.

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
        raise ValueError(f"{_RULE}, without user name, password or fragment; got another form")
    return _normal_form(parts.scheme, parts.hostname, port, parts.path, parts.query)


def _normal_form(scheme: str, host: str, port: int | None, path: str, query: str) -> str:
    host = f"[{host}]" if ":" in host else host
    is_default = port in (None, _DEFAULT_PORTS[scheme.lower()])
    netloc = host if is_default else f"{host}:{port}"
    path = "" if path == "/" else path
    return f"{scheme.lower()}://{netloc}{path}" + (f"?{query}" if query else "")


def is_onion(url: str) -> bool:
    """Tell whether the relay is a Tor onion service, which only a proxy can reach."""
    # A dot at the end of a name means the same place.
    return (urlsplit(url).hostname or "").rstrip(".").endswith(".onion")
