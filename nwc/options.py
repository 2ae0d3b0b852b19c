"""The plugin's options, and lightningd's own configuration that applies to it, checked once."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nwc import manifest
from nwc.cln.payer import PayCommand
from nwc.errors import NwcError
from nwc.nostr.relay_url import is_onion, parse_relay_urls

DEFAULT_RELAYS = ("wss://relay.getalby.com", "wss://relay2.getalby.com")
# Of all new connections together, and of one connection.
MAX_RELAYS = 20
# A year. NIP-47 has no limit; apps have the same one as the owner.
MAX_INVOICE_EXPIRY_S = 31_536_000

_RELAY_RULE = "a relay URL is wss://host[:port][/path] (or ws://)"
_MAX_SHOWN = 100
_QUOTES = "\"'`\u201c\u201d\u201e\u2018\u2019\u00ab\u00bb"

Values = dict[str, Any]


class OptionError(NwcError, ValueError):
    """An option breaks its rule; the text names the option, the rule and the value."""


def option_error(name: str, rule: str, value: object) -> OptionError:
    """Return the error for a value. If the mistake is a common one, the text names it."""
    shown = repr(value)
    shown = shown if len(shown) <= _MAX_SHOWN else shown[:_MAX_SHOWN] + "..."
    mistake = _mistake(value)
    return OptionError(f"{name}: {rule}; got {shown}" + (f": {mistake}" if mistake else ""))


def _mistake(value: object) -> str:
    """Return the common mistake in a value, or "". lightningd keeps quotes and comments in values."""
    if not isinstance(value, str) or not value.strip():
        return ""
    text = value.strip()
    if re.search(r"(^|\s)#", text):
        return "a comment cannot follow a value; put it on a line of its own that begins with #"
    if text[0] in _QUOTES or text[-1] in _QUOTES:
        return "write the value without quotes"
    return ""


@dataclass(frozen=True, slots=True)
class IntegerOption:
    """An option that is a whole number within bounds."""

    declared: manifest.Option
    minimum: int
    maximum: int

    @property
    def name(self) -> str:
        """The name in lightningd's configuration."""
        return self.declared.name

    def parse(self, value: object) -> int:
        """Return the checked value.

        Raises:
            OptionError: the value is not a whole number, or out of bounds.

        """
        if isinstance(value, str) and value.isascii() and value.strip().isdigit():
            value = int(value) if len(value) < 20 else -1
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if not is_number or not self.minimum <= value <= self.maximum:  # type: ignore[operator]
            rule = f"must be a whole number from {self.minimum} to {self.maximum}"
            raise option_error(self.name, rule, value)
        return value  # type: ignore[return-value]


INVOICE_EXPIRY = IntegerOption(manifest.INVOICE_EXPIRY, 1, MAX_INVOICE_EXPIRY_S)
MAX_REQUEST_AGE = IntegerOption(manifest.MAX_REQUEST_AGE, 1, 86_400)
RATE_LIMIT = IntegerOption(manifest.RATE_LIMIT, 1, 100_000)
RELAY = manifest.RELAY.name
NOTIFICATIONS = manifest.NOTIFICATIONS.name
PAY_COMMAND = manifest.PAY_COMMAND.name


@dataclass(frozen=True, slots=True)
class Settings:
    """The checked options of the plugin and of lightningd.

    Attributes:
        rpc_path: lightningd's RPC socket.
        relays: the relays of connections that name none.
        invoice_expiry: seconds.
        max_request_age: seconds.
        rate_limit: requests a second for each connection.
        notifications: True if apps are notified of payments.
        proxy: SOCKS proxy URL, or None.
        always_use_proxy: True if all relays are reached through the proxy.
        pay_command: which of lightningd's commands pays.
        is_node_start: True if lightningd itself is starting, False if only the plugin is.

    """

    rpc_path: str
    relays: tuple[str, ...]
    invoice_expiry: int
    max_request_age: int
    rate_limit: int
    notifications: bool
    proxy: str | None
    always_use_proxy: bool
    pay_command: PayCommand = PayCommand.AUTO
    is_node_start: bool = False

    def proxy_for(self, url: str) -> str | None:
        """Return the proxy by which a relay is reached, None to connect directly."""
        return self.proxy if self.always_use_proxy or is_onion(url) else None


def parse_settings(options: Values, configuration: Values) -> Settings:
    """Return the settings from what lightningd sends with `init`.

    Raises:
        OptionError: names the option and the rule.

    """
    always_use_proxy = configuration.get("always_use_proxy") is True
    proxy = _proxy_url(configuration.get("proxy"))
    if always_use_proxy and proxy is None:
        raise OptionError("always-use-proxy: lightningd's option proxy must be set too")
    relays = parse_relays(options.get(RELAY)) or DEFAULT_RELAYS
    if proxy is None and any(is_onion(url) for url in relays):
        raise OptionError(f"{RELAY}: a .onion relay needs lightningd's option proxy")
    return Settings(
        rpc_path=str(Path(configuration["lightning-dir"]) / configuration["rpc-file"]),
        relays=relays,
        invoice_expiry=INVOICE_EXPIRY.parse(options.get(INVOICE_EXPIRY.name)),
        max_request_age=MAX_REQUEST_AGE.parse(options.get(MAX_REQUEST_AGE.name)),
        rate_limit=RATE_LIMIT.parse(options.get(RATE_LIMIT.name)),
        notifications=_parse_flag(NOTIFICATIONS, options.get(NOTIFICATIONS, True)),
        proxy=proxy,
        always_use_proxy=always_use_proxy,
        pay_command=_parse_pay_command(options.get(PAY_COMMAND, PayCommand.AUTO)),
        is_node_start=configuration.get("startup") is True,
    )


def _parse_flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise option_error(name, "must be true or false", value)
    return value


def _parse_pay_command(value: object) -> PayCommand:
    if not isinstance(value, str) or value not in tuple(PayCommand):
        raise option_error(PAY_COMMAND, "must be auto, pay or xpay", value)
    return PayCommand(value)


def parse_relays(value: object) -> tuple[str, ...]:
    """Return the relays in the values of nwc-relay; each may hold several URLs, separated by commas.

    Raises:
        OptionError: a value is not a relay URL, or there are too many.

    """
    values = value if isinstance(value, list) else [] if value is None else [value]
    for item in values:
        _check_relay_option(item)
    texts = [text for item in values for text in str(item).split(",") if text.strip()]
    if len(texts) > MAX_RELAYS:
        raise OptionError(f"{RELAY}: at most {MAX_RELAYS} relays; got {len(texts)}")
    try:
        return parse_relay_urls(texts)
    except ValueError as error:
        raise OptionError(f"{RELAY}: {error}") from None


def _check_relay_option(value: object) -> None:
    """Raise OptionError for mistakes that the rule for a single URL would not explain."""
    if _mistake(value):
        raise option_error(RELAY, _RELAY_RULE, value)
    if isinstance(value, str) and any(len(re.split(r"[\s;]+", t.strip())) > 1 for t in value.split(",")):
        rule = f"holds more than one URL: separate them by commas, or give {RELAY} once for each"
        raise option_error(RELAY, rule, value)


def _proxy_url(proxy: object) -> str | None:
    """Return lightningd's `proxy` as a URL by which the proxy resolves host names (socks5h)."""
    if not isinstance(proxy, dict) or not proxy.get("address"):
        return None
    host = str(proxy["address"])
    host = f"[{host}]" if ":" in host else host
    return f"socks5h://{host}:{proxy.get('port', 9050)}"
