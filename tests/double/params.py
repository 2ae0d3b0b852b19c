"""Command parameters and errors, after lightningd's common/json_param.c.

lightningd looks at the text of a token more than at its JSON type: it accepts `"1000"` for a number
as well as `1000`. The parsers here accept and refuse the same values.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.double.jsonio import EscapedText, Json, token

INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
LIGHTNINGD = -1
PLUGIN_ERROR = -3
PLUGIN_TERMINATED = -4

U64 = 1 << 64
INDEXES = ("created", "updated", "deleted")


class RpcError(Exception):
    """The error of a command, as the caller gets it."""

    def __init__(self, code: int, message: str, data: Json = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data

    def as_json(self) -> Json:
        """Return the `error` member of the reply."""
        error = {"code": self.code, "message": str(self)}
        return error if self.data is None else {**error, "data": self.data}


class BadParam(RpcError):
    """A malformed parameter; lightningd writes its token to the log only."""

    def __init__(self, name: str, rule: str, value: Json) -> None:
        super().__init__(INVALID_PARAMS, f"{name}: {rule}: invalid token (see logs for details)")
        self.detail = f"Invalid parameter {name} ({rule}): token '{token(value)}'"


Parser = Callable[[str, Json], Any]


@dataclass(frozen=True)
class Param:
    """One parameter of a command."""

    name: str
    parse: Parser
    required: bool = True
    default: Any = None


# For a command that parses its parameters itself; it gets them as `given`.
ANYTHING = Param("given", lambda _name, value: value)


def opt(name: str, parse: Parser, default: Any = None) -> Param:
    """Return an optional parameter."""
    return Param(name, parse, required=False, default=default)


def usage(params: Sequence[Param]) -> str:
    """Return the parameters as `help` prints them."""
    if ANYTHING in params:
        return "subcommand=start|stop|startdir|rescan|list"
    return " ".join(p.name if p.required else f"[{p.name}]" for p in params)


def parse_params(params: Sequence[Param], given: Json) -> dict[str, Any]:
    """Return a value for every parameter, under its name as a Python identifier.

    Raises:
        RpcError: too many, unknown, missing or malformed parameters.

    """
    if ANYTHING in params:
        return {"given": given}
    pairs = _pair_up(params, given)
    for param in params:
        if param.required and param.name not in pairs:
            raise RpcError(INVALID_PARAMS, f"missing required parameter: {param.name}")
    return {
        p.name.replace("-", "_"): p.parse(p.name, pairs[p.name]) if p.name in pairs else p.default
        for p in params
    }


def _pair_up(params: Sequence[Param], given: Json) -> dict[str, Json]:
    if isinstance(given, list):
        if len(given) > len(params):
            message = f"too many parameters: got {len(given)}, expected {len(params)}"
            raise RpcError(INVALID_PARAMS, message)
        named = zip(params, given, strict=False)
        return {p.name: value for p, value in named if value is not None}
    if not isinstance(given, dict):
        raise RpcError(INVALID_PARAMS, "Expected array or object for params")
    for name in given:
        if all(name != p.name for p in params):
            message = (
                f"unknown parameter: {name}, this may be caused by a failure to autodetect "
                "key=value-style parameters. Please try using the -k flag and explicit "
                "key=value pairs of parameters."
            )
            raise RpcError(INVALID_PARAMS, message)
    return {name: value for name, value in given.items() if value is not None}


def raw(name: str, value: Json) -> Json:
    """Accept anything."""
    return value


def string(name: str, value: Json) -> str:
    """Return the text of any token."""
    return token(value)


def text(name: str, value: Json) -> str:
    r"""Parse a JSON string without `\u` escapes."""
    if not isinstance(value, str) or isinstance(value, EscapedText):
        raise BadParam(name, "should be a string (without \\u)", value)
    return value


def label(name: str, value: Json) -> str:
    """Parse a string, or a number without sign or fraction."""
    if isinstance(value, str):
        return value
    if not re.fullmatch("[0-9]+", token(value)):
        raise BadParam(name, "should be a string or number", value)
    return token(value)


def boolean(name: str, value: Json) -> bool:
    """Parse `true` or `false`."""
    if not isinstance(value, bool):
        raise BadParam(name, "should be 'true' or 'false'", value)
    return value


def u64(name: str, value: Json) -> int:
    """Parse what strtoull accepts: also a negative number, which wraps around."""
    try:
        number = int(token(value), 0)
    except ValueError:
        raise BadParam(name, "should be an unsigned 64 bit integer", value) from None
    if abs(number) >= U64:
        raise BadParam(name, "should be an unsigned 64 bit integer", value)
    return number % U64


def integer(name: str, value: Json) -> int:
    """Parse a number of no more than 32 bits, as plugins do."""
    if not re.fullmatch("[0-9]{1,9}", token(value)):
        raise BadParam(name, "should be an integer", value)
    return int(token(value))


def signed(name: str, value: Json) -> int:
    """Parse a number with an optional sign; only our dev methods accept one."""
    try:
        return int(token(value))
    except ValueError:
        raise BadParam(name, "should be an integer", value) from None


def u32(name: str, value: Json) -> int:
    """Parse a 32 bit number."""
    try:
        number = u64(name, value)
    except BadParam:
        number = U64
    if number >= 1 << 32:
        raise BadParam(name, "should be an unsigned 32 bit integer", value)
    return number


def binary(name: str, value: Json) -> bytes | None:
    """Parse hex digits; lightningd treats anything else as if the parameter were absent."""
    digits = token(value)
    if len(digits) % 2 or not re.fullmatch("[0-9a-fA-F]*", digits):
        return None
    return bytes.fromhex(digits)


def hash32(name: str, value: Json) -> bytes:
    """Parse 32 bytes in hex."""
    if not re.fullmatch("[0-9a-fA-F]{64}", token(value)):
        raise BadParam(name, "should be a 32 byte hex value", value)
    return bytes.fromhex(token(value))


def node_id(name: str, value: Json) -> str:
    """Parse a public key in hex."""
    if not re.fullmatch("0[23][0-9a-fA-F]{64}", token(value)):
        raise BadParam(name, "should be a node id", value)
    return token(value)


def preimage(name: str, value: Json) -> bytes:
    """Parse a payment preimage."""
    if not re.fullmatch("[0-9a-fA-F]{64}", token(value)):
        raise BadParam(name, "should be 64 hex digits", value)
    return bytes.fromhex(token(value))


def invstring(name: str, value: Json) -> str:
    """Return an invoice in lower case and without the prefix of a `lightning:` URI."""
    return token(value).lower().removeprefix("lightning:")


def bolt12(name: str, value: Json) -> str:
    """Return the same, and joined where `+` and white space divide it (BOLT12, "Encoding")."""
    return re.sub(r"\+\s*", "", invstring(name, value))


def pubkey(name: str, value: Json) -> str:
    """Parse a public key as the plugins of lightningd do."""
    if not re.fullmatch("0[23][0-9a-fA-F]{64}", token(value)):
        raise BadParam(name, "should be a compressed pubkey", value)
    return token(value).lower()


def index(name: str, value: Json) -> str:
    """Parse the name of an index."""
    if value not in INDEXES:
        raise BadParam(name, "unknown index", value)
    return token(value)


def array(name: str, value: Json) -> list[Json]:
    """Parse a list."""
    if not isinstance(value, list):
        raise BadParam(name, "should be an array", value)
    return value


def msat_or_any(name: str, value: Json) -> int | None:
    """Return a positive amount (`1000`, `1sat`, `0.5btc`) in msat, None for `any`."""
    if token(value) == "any":
        return None
    amount = _msat(token(value))
    if not amount:
        raise BadParam(name, "should be positive msat or 'any'", value)
    return amount


def msat(name: str, value: Json) -> int:
    """Return an amount in msat; 0 is allowed."""
    amount = _msat(token(value))
    if amount is None:
        raise BadParam(name, "should be a millisatoshi amount", value)
    return amount


def _msat(amount: str) -> int | None:
    match = re.fullmatch(r"([0-9]+)(?:\.([0-9]{1,11}))?(msat|sat|btc)?", amount)
    if not match or (match[2] and match[3] != "btc"):
        return None
    zeros = {None: 0, "msat": 0, "sat": 3, "btc": 11}[match[3]]
    msat = int(match[1]) * 10**zeros + int((match[2] or "").ljust(11, "0"))
    return msat if msat < U64 else None
