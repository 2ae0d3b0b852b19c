"""The plugin's options and the parts of lightningd's configuration that bind us, checked once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nwc.cln.payments import PayCommand
from nwc.nostr.relay_url import is_onion, parse_relay_urls

DEFAULT_RELAYS = ("wss://relay.getalby.com", "wss://relay2.getalby.com")
MAX_RELAYS = 20

Values = dict[str, Any]


class BadOption(ValueError):
    """An option breaks its rule; the text names the option and the rule."""


@dataclass(frozen=True, slots=True)
class IntegerOption:
    """An option that is a whole number within bounds."""

    name: str
    default: int
    minimum: int
    maximum: int
    description: str

    def parse(self, value: object) -> int:
        """Check a value.

        Raises:
            BadOption: not a whole number, or out of bounds.

        """
        rule = f"{self.name}: must be a whole number from {self.minimum} to {self.maximum}"
        if isinstance(value, str) and value.isascii() and value.strip().isdigit():
            value = int(value) if len(value) < 20 else -1
        if isinstance(value, bool) or not isinstance(value, int):
            raise BadOption(f"{rule}; got {value!r}")
        if not self.minimum <= value <= self.maximum:
            raise BadOption(f"{rule}; got {value}")
        return value


RELAY = "nwc-relay"
RELAY_DESCRIPTION = "Nostr relay for new connections, wss://host[:port]; can be given several times"
INVOICE_EXPIRY = IntegerOption(
    "nwc-invoice-expiry", 86_400, 1, 31_536_000, "Seconds an invoice lasts when the app does not say"
)
MAX_REQUEST_AGE = IntegerOption(
    "nwc-max-request-age", 120, 1, 86_400, "Ignore requests older than this many seconds"
)
RATE_LIMIT = IntegerOption(
    "nwc-rate-limit", 20, 1, 100_000, "Requests a second a connection may make in the long run"
)
PAY_COMMAND = "nwc-pay-command"
PAY_COMMAND_DESCRIPTION = (
    "Which of lightningd's commands pays: auto, pay or xpay; auto takes pay where lightningd has it"
)
NOTIFICATIONS = "nwc-notifications"
NOTIFICATIONS_DESCRIPTION = "Tell apps of payments they receive and make"
INTEGER_OPTIONS = (INVOICE_EXPIRY, MAX_REQUEST_AGE, RATE_LIMIT)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the service runs with.

    Attributes:
        rpc_path: lightningd's RPC socket.
        relays: of connections that name none.
        invoice_expiry: seconds.
        max_request_age: seconds.
        rate_limit: requests a second and connection.
        notifications: whether apps are told of payments.
        proxy: SOCKS proxy URL, or None.
        always_use_proxy: every relay goes through the proxy.
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


def parse_settings(options: Values, configuration: Values) -> Settings:
    """Check what lightningd sends with `init`.

    Raises:
        BadOption: names the option and the rule.

    """
    always_use_proxy = configuration.get("always_use_proxy") is True
    proxy = _proxy_url(configuration.get("proxy"))
    if always_use_proxy and proxy is None:
        raise BadOption("always-use-proxy: lightningd's option proxy must be set too")
    relays = parse_relays(options.get(RELAY)) or DEFAULT_RELAYS
    if proxy is None and any(is_onion(url) for url in relays):
        raise BadOption(f"{RELAY}: a .onion relay needs lightningd's option proxy")
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
        raise BadOption(f"{name}: must be true or false; got {value!r}")
    return value


def _parse_pay_command(value: object) -> PayCommand:
    if not isinstance(value, str) or value not in tuple(PayCommand):
        raise BadOption(f"{PAY_COMMAND}: must be auto, pay or xpay; got {value!r}")
    return PayCommand(value)


def parse_relays(value: object) -> tuple[str, ...]:
    """Check the values of nwc-relay; each may hold several URLs with commas between them.

    Raises:
        BadOption: a value is no relay URL, or there are too many.

    """
    values = value if isinstance(value, list) else [] if value is None else [value]
    texts = [text for item in values for text in str(item).split(",") if text.strip()]
    if len(texts) > MAX_RELAYS:
        raise BadOption(f"{RELAY}: at most {MAX_RELAYS} relays; got {len(texts)}")
    try:
        return parse_relay_urls(texts)
    except ValueError as error:
        raise BadOption(f"{RELAY}: {error}") from None


def _proxy_url(proxy: object) -> str | None:
    """lightningd's `proxy`, as a URL that has the proxy resolve names (socks5h)."""
    if not isinstance(proxy, dict) or not proxy.get("address"):
        return None
    host = str(proxy["address"])
    host = f"[{host}]" if ":" in host else host
    return f"socks5h://{host}:{proxy.get('port', 9050)}"
