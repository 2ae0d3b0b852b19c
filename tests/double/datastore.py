"""The datastore commands, after lightningd/datastore.c."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tests.double import params
from tests.double.jsonio import Json, token
from tests.double.params import INVALID_PARAMS, BadParam, Param, RpcError, opt

if TYPE_CHECKING:
    from tests.double.node import Node

DEL_DOES_NOT_EXIST = 1200
DEL_WRONG_GENERATION = 1201
UPDATE_ALREADY_EXISTS = 1202
UPDATE_DOES_NOT_EXIST = 1203
UPDATE_WRONG_GENERATION = 1204
UPDATE_HAS_CHILDREN = 1205
UPDATE_NO_CHILDREN = 1206

MODES = ("must-create", "must-replace", "create-or-replace", "must-append", "create-or-append")
Key = tuple[str, ...]


def key(name: str, value: Json) -> Key:
    """Parse a string, or a list of strings."""
    parts = value if isinstance(value, list) else [value]
    if not parts:
        raise BadParam(name, "should not be empty", value)
    if any(isinstance(part, dict | list) for part in parts):
        rule = "should be string" if isinstance(value, list) else "should be string or array"
        raise BadParam(name, rule, value)
    return tuple(token(part) for part in parts)


def mode(name: str, value: Json) -> str:
    """Parse one of the five modes."""
    if value not in MODES:
        listed = ", ".join(f"'{m}'" for m in MODES[:-1])
        raise BadParam(name, f"should be {listed}, or '{MODES[-1]}'", value)
    return str(value)


def content(hex_: bytes | None, string: str | None) -> bytes:
    """Return the bytes that were given as hex or as string (also for makesecret).

    Raises:
        RpcError: both were given, or neither.

    """
    if string is not None and hex_ is not None:
        raise RpcError(INVALID_PARAMS, "Cannot have both hex and string")
    if string is None and hex_ is None:
        raise RpcError(INVALID_PARAMS, "Must have either hex or string")
    return hex_ if hex_ is not None else (string or "").encode()


def datastore(
    node: "Node",
    key: Key,
    string: str | None,
    hex: bytes | None,
    mode: str,
    generation: int | None,
) -> Json:
    """Write one entry."""
    data = content(hex, string)
    if generation is not None and mode not in ("must-replace", "must-append"):
        message = "generation only valid with must-replace or must-append"
        raise RpcError(INVALID_PARAMS, message)
    previous = _get(node, key)
    _check_relatives(node, key, exists=previous is not None)
    if previous is None:
        if mode.startswith("must-") and mode != "must-create":
            raise RpcError(UPDATE_DOES_NOT_EXIST, "Key does not exist")
        node.state.db.execute("INSERT INTO datastore VALUES (?, ?, 0)", (_blob(key), data))
        return _entry(key, data, 0)
    old_data, old_generation = previous
    if mode == "must-create":
        raise RpcError(UPDATE_ALREADY_EXISTS, "Key already exists")
    if generation is not None and generation != old_generation:
        raise RpcError(UPDATE_WRONG_GENERATION, "generation is different")
    if mode.endswith("-append"):
        data = old_data + data
    node.state.db.execute(
        "UPDATE datastore SET data = ?, generation = generation + 1 WHERE key = ?",
        (data, _blob(key)),
    )
    return _entry(key, data, old_generation + 1)


def listdatastore(node: "Node", key: Key | None) -> Json:
    """List an entry and its children; of deeper entries, only the key of the child above them."""
    key = key or ()
    listed: dict[Key, Json] = {}
    for name, data, generation in _below(node, key):
        if len(name) > len(key) + 1:
            branch = name[: len(key) + 1]
            listed.setdefault(branch, {"key": list(branch)})
        else:
            listed[name] = _entry(name, data, generation)
    return {"datastore": list(listed.values())}


def deldatastore(node: "Node", key: Key, generation: int | None) -> Json:
    """Remove one entry."""
    previous = _get(node, key)
    if previous is None:
        raise RpcError(DEL_DOES_NOT_EXIST, "Key does not exist")
    if generation is not None and generation != previous[1]:
        raise RpcError(DEL_WRONG_GENERATION, "generation is different")
    node.state.db.execute("DELETE FROM datastore WHERE key = ?", (_blob(key),))
    return _entry(key, *previous)


def datastoreusage(node: "Node", key: Key | None) -> Json:
    """Return how many bytes an entry and all entries below it take."""
    total = sum(len(data) + len(_blob(name)) for name, data, _ in _below(node, key or ()))
    shown = f"[{','.join(key or ())}]"
    return {"datastoreusage": {"key": shown, "total_bytes": total}}


def _blob(key: Key) -> bytes:
    return b"\0".join(part.encode() for part in key)


def _get(node: "Node", key: Key) -> tuple[bytes, int] | None:
    query = "SELECT data, generation FROM datastore WHERE key = ?"
    row = node.state.db.execute(query, (_blob(key),)).fetchone()
    return (row["data"], row["generation"]) if row else None


def _below(node: "Node", key: Key) -> Iterator[tuple[Key, bytes, int]]:
    query = "SELECT * FROM datastore WHERE key >= ? ORDER BY key"
    for row in node.state.db.execute(query, (_blob(key),)):
        name = tuple(row["key"].decode().split("\0"))
        if name[: len(key)] != key:
            return
        yield name, row["data"], row["generation"]


def _check_relatives(node: "Node", key: Key, exists: bool) -> None:
    """Raise RpcError if a new entry would be the parent or the child of another."""
    if exists:
        return
    if next(_below(node, key), None):
        raise RpcError(UPDATE_HAS_CHILDREN, "Key has children already")
    for length in range(1, len(key)):
        if _get(node, key[:length]):
            message = f"Parent key [{','.join(key[:length])}] exists"
            raise RpcError(UPDATE_NO_CHILDREN, message)


def _entry(key: Key, data: bytes, generation: int) -> Json:
    entry = {"key": list(key), "generation": generation, "hex": data.hex()}
    try:
        string = data.decode()
    except UnicodeDecodeError:
        return entry
    return entry if "\0" in string else {**entry, "string": string}


COMMANDS = {
    "datastore": (
        datastore,
        Param("key", key),
        opt("string", params.text),
        opt("hex", params.binary),
        opt("mode", mode, "must-create"),
        opt("generation", params.u64),
    ),
    "listdatastore": (listdatastore, opt("key", key)),
    "deldatastore": (deldatastore, Param("key", key), opt("generation", params.u64)),
    "datastoreusage": (datastoreusage, opt("key", key)),
}
