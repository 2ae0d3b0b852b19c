"""The URI by which an app that makes its own key asks for a connection (NWC-08, "Nostr flow").

The older form, Nostr Wallet Auth as Alby's SDK writes it, has no `state` and calls the renewal
`budget_renewal`. The first form of all, with `required_commands` and a `secret`, is another protocol.

The URI comes from a stranger. Every field is bounded here; what is granted is decided elsewhere.
"""

import re
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from nwc.nostr.keys import parse_public_key
from nwc.nostr.relay_url import parse_relay_urls

MAX_URI_CHARACTERS = 65_536
MAX_RELAYS = 10
MAX_NAME_CHARACTERS = 256
MAX_METHODS = 64
MAX_METADATA_CHARACTERS = 4096
# Of all other values.
MAX_VALUE_CHARACTERS = 2048
MAX_PARAMETERS = 64
# 21 million BTC.
MAX_AMOUNT_MSAT = 2_100_000_000_000_000_000
RENEWALS = ("never", "daily", "weekly", "monthly", "yearly")

_SCHEME = re.compile(r"nostr\+walletauth(\+[a-z0-9.-]{1,64})?:(//)?", re.IGNORECASE)
# What a URI is made of (RFC 3986, section 2), without '#': a fragment has no meaning here.
_URI = re.compile(r"[A-Za-z0-9._~:/?@!$&'()*+,;=%\[\]-]*")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_HEX_KEY = re.compile(r"[0-9A-Fa-f]{64}")
_WORD = re.compile(r"[a-z0-9_]{1,64}")
# What a state consists of: it is repeated in an event that everybody can read.
STATE = re.compile(r"[A-Za-z0-9._~-]{1,256}")
_NUMBER = re.compile(r"[0-9]{1,19}")
_LINK = re.compile(rf"[A-Za-z][A-Za-z0-9+.-]*:{_URI.pattern}")

_REPEATABLE = "relay"
_RENAMED = {"budget_renewal": "renewal_period"}
_KNOWN = frozenset(
    {
        "state",
        "name",
        "icon",
        "return_to",
        "expires_at",
        "request_methods",
        "optional_request_methods",
        "notification_types",
        "isolated",
        "metadata",
        "max_amount",
        "renewal_period",
    }
)
_FIRST_FORM = frozenset({"secret", "required_commands", "optional_commands", "budget", "identity"})


@dataclass(frozen=True, slots=True)
class WalletAuth:
    """What an app asks for.

    Attributes:
        client_pubkey: the app's key, 64 hex digits.
        relays: relay URLs in normal form, 1 to MAX_RELAYS.
        state: to be repeated in the info event; None in the older form.
        name: the app's, unchecked but for its length; None if there is none.
        required: methods without which the app wants no connection.
        optional: methods that it can do without.
        notification_types: those it wants.
        max_amount_msat: the most that it may spend in a period, fees included; None for no limit.
        renewal: one of RENEWALS.
        expires_at: Unix seconds after which it needs no connection; None if it names no time.
        isolated: True if it asks for a balance of its own.
        return_to: a link to open after the connection is made, of the characters of a URI; None if there
            is none.
        unused: the names of parameters in the URI that have no effect.

    """

    client_pubkey: str
    relays: tuple[str, ...]
    state: str | None = None
    name: str | None = None
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    notification_types: tuple[str, ...] = ()
    max_amount_msat: int | None = None
    renewal: str = "never"
    expires_at: int | None = None
    isolated: bool = False
    return_to: str | None = None
    unused: tuple[str, ...] = ()


def is_wallet_auth(text: str) -> bool:
    """Return True if a text begins as such a URI does."""
    return _SCHEME.match(text.strip()) is not None


def normal_form(text: str) -> str:
    """Return the URI without spaces around it and without apostrophes, so that a shell can quote it."""
    return text.strip().replace("'", "%27")


def parse_wallet_auth(text: str) -> WalletAuth:
    """Return what an app asks for in its URI.

    Raises:
        ValueError: a part breaks its rule; the text names the part and the rule. It never quotes the
            whole URI, which may be another one that holds a secret.

    """
    client_pubkey, pairs = _split(text)
    found = _Parameters.of(pairs)
    return WalletAuth(
        client_pubkey=client_pubkey,
        relays=_relays(found.relays),
        state=_matching(found.values, "state", STATE, "1 to 256 letters and digits"),
        name=_name(found.values),
        required=_words(found.values, "request_methods"),
        optional=_words(found.values, "optional_request_methods"),
        notification_types=_words(found.values, "notification_types"),
        max_amount_msat=_number(found.values, "max_amount", MAX_AMOUNT_MSAT),
        renewal=_renewal(found.values),
        expires_at=_number(found.values, "expires_at", 2**63 - 1),
        isolated=_flag(found.values, "isolated"),
        return_to=_matching(found.values, "return_to", _LINK, "a URI"),
        unused=found.unused,
    )


def _split(text: str) -> tuple[str, list[tuple[str, str]]]:
    """Return the client key and the decoded parameters of a URI."""
    text = text.strip()
    scheme = _SCHEME.match(text)
    if scheme is None:
        raise ValueError("must begin with nostr+walletauth://, as an app shows it")
    if len(text) > MAX_URI_CHARACTERS:
        raise ValueError(f"must have at most {MAX_URI_CHARACTERS} characters; got {len(text)}")
    if not _URI.fullmatch(text):
        raise ValueError("has a character that no URI has; copy it as the app shows it")
    path, _, query = text[scheme.end() :].partition("?")
    path = path.removesuffix("/")
    if not _HEX_KEY.fullmatch(path):
        raise ValueError(f"must have the app's public key, 64 hex digits, after {scheme[0]}")
    parts = [part for part in query.split("&") if part]
    if len(parts) > MAX_PARAMETERS:
        raise ValueError(f"must have at most {MAX_PARAMETERS} parameters; got {len(parts)}")
    pairs = [(_decoded(name), _decoded(value)) for name, _, value in (p.partition("=") for p in parts)]
    return parse_public_key(path), pairs


def _decoded(text: str) -> str:
    """Return a part of the query decoded; `+` is a space, as browsers write forms."""
    if _BROKEN_ESCAPE.search(text):
        raise ValueError("has a '%' without two hex digits after it; copy it as the app shows it")
    try:
        return unquote_to_bytes(text.replace("+", " ")).decode()
    except UnicodeDecodeError:
        raise ValueError("has escapes that are not UTF-8; copy it as the app shows it") from None


@dataclass(frozen=True, slots=True)
class _Parameters:
    """The parameters of a URI: the relays, the other known ones by name, and names without effect."""

    relays: list[str] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()

    @classmethod
    def of(cls, pairs: list[tuple[str, str]]) -> "_Parameters":
        relays: list[str] = []
        values: dict[str, str] = {}
        unused: list[str] = []
        for given, value in pairs:
            name = _RENAMED.get(given, given)
            _check_length(name, value)
            if name in _FIRST_FORM:
                raise ValueError(
                    f"has the parameter {name}: the app speaks the first form of Nostr Wallet Auth, "
                    "which this plugin does not"
                )
            if name == _REPEATABLE:
                relays.append(value)
            elif name not in _KNOWN:
                unused.append(name if _WORD.fullmatch(name) else "one with an odd name")
            elif values.get(name, value) != value:
                raise ValueError(f"has two values of {name}")
            else:
                values[name] = value
        return cls(relays, values, tuple(unused))


def _check_length(name: str, value: str) -> None:
    lengths = {"metadata": MAX_METADATA_CHARACTERS, "name": MAX_NAME_CHARACTERS}
    longest = lengths.get(name, MAX_VALUE_CHARACTERS)
    if len(value) > longest:
        raise ValueError(f"{name[:64]!r}: must have at most {longest} characters; got {len(value)}")


def _relays(urls: list[str]) -> tuple[str, ...]:
    if not 0 < len(urls) <= MAX_RELAYS:
        raise ValueError(f"relay: must be given 1 to {MAX_RELAYS} times; got {len(urls)}")
    for url in urls:
        if not _URI.fullmatch(url):
            raise ValueError(f"relay: must have only characters of a URI; got {url!r:.80}")
    try:
        return parse_relay_urls(urls)
    except ValueError as error:
        raise ValueError(f"relay: {error}") from None


def _name(values: dict[str, str]) -> str | None:
    return values.get("name", "").strip() or None


def _matching(values: dict[str, str], name: str, rule: re.Pattern[str], said: str) -> str | None:
    value = values.get(name, "")
    if value and not rule.fullmatch(value):
        raise ValueError(f"{name}: must be {said}; got {value!r:.80}")
    return value or None


def _words(values: dict[str, str], name: str) -> tuple[str, ...]:
    """Return words separated by spaces, without repetitions."""
    words = dict.fromkeys(values.get(name, "").split())
    if len(words) > MAX_METHODS:
        raise ValueError(f"{name}: must be at most {MAX_METHODS} words; got {len(words)}")
    for word in words:
        if not _WORD.fullmatch(word):
            raise ValueError(f"{name}: must be words separated by spaces; got {word!r:.80}")
    return tuple(words)


def _number(values: dict[str, str], name: str, maximum: int) -> int | None:
    text = values.get(name, "")
    if not text:
        return None
    number = int(text) if _NUMBER.fullmatch(text) else 0
    if not 0 < number <= maximum:
        raise ValueError(f"{name}: must be a whole number from 1 to {maximum}; got {text!r:.80}")
    return number


def _renewal(values: dict[str, str]) -> str:
    renewal = values.get("renewal_period") or RENEWALS[0]
    if renewal not in RENEWALS:
        raise ValueError(f"renewal_period: must be one of {', '.join(RENEWALS)}; got {renewal!r:.80}")
    return renewal


def _flag(values: dict[str, str], name: str) -> bool:
    value = values.get(name, "")
    if value not in ("", "true", "false"):
        raise ValueError(f"{name}: must be true or false; got {value!r:.80}")
    return value == "true"
