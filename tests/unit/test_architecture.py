"""Imports point one way: down the map of nwc/README.md."""

import ast
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "nwc"

# Part: what it may import of nwc, beside itself.
ALLOWED = {
    "nwc.errors": set[str](),
    "nwc.nostr": {"nwc.backoff", "nwc.errors"},
    "nwc.nip47": {"nwc.errors", "nwc.nostr"},
    "nwc.cln": {"nwc.backoff", "nwc.errors", "nwc.nostr", "nwc.tasks"},
    "nwc.options": {"nwc.cln", "nwc.errors", "nwc.manifest", "nwc.nostr"},
    "nwc.tasks": set(),
    "nwc.backoff": set(),
    "nwc.logs": set(),
    "nwc.names": set(),
    "nwc.manifest": set(),
    "nwc.origin": set(),
    "nwc.bootstrap": {"nwc.manifest", "nwc.origin"},
    "nwc.wallet": {
        "nwc.backoff",
        "nwc.cln",
        "nwc.errors",
        "nwc.names",
        "nwc.nip47",
        "nwc.nostr",
        "nwc.options",
        "nwc.tasks",
    },
    "nwc.service": {"nwc.cln", "nwc.nip47", "nwc.nostr", "nwc.options", "nwc.wallet", "nwc.tasks"},
    "nwc.commands": {
        "nwc",
        "nwc.cln",
        "nwc.errors",
        "nwc.names",
        "nwc.options",
        "nwc.origin",
        "nwc.nip47",
        "nwc.nostr",
        "nwc.wallet",
        "nwc.service",
    },
    "nwc.runner": {
        "nwc.logs",
        "nwc.manifest",
        "nwc.options",
        "nwc.cln",
        "nwc.wallet",
        "nwc.service",
        "nwc.commands",
    },
    "nwc.main": {"nwc.manifest", "nwc.commands", "nwc.runner"},
    # The entry points.
    "nwc.nwc": {"nwc.bootstrap", "nwc.main"},
    "nwc": set(),
}
# Room of nwc/wallet: the other rooms that it may import. A request goes from the last to the first.
ROOMS = {
    "records": set[str](),
    "labels": set(),
    "slots": set(),
    "stored_data": set(),
    "templates": {"labels"},
    "connections": {"records"},
    "invoice_record": {"connections", "labels", "records"},
    "hold_record": {"records"},
    "hold_invoices": {"connections", "hold_record"},
    "spending": {"connections", "labels", "records", "slots"},
    "transaction": {"hold_record", "invoice_record", "spending"},
    "transaction_sources": {
        "connections",
        "hold_record",
        "invoice_record",
        "spending",
        "transaction",
    },
    "paid_invoices": {"connections", "labels"},
    "notifier": {
        "connections",
        "hold_record",
        "invoice_record",
        "labels",
        "paid_invoices",
        "spending",
        "transaction",
    },
    "context": {"connections", "hold_invoices", "invoice_record", "spending", "templates"},
    "transaction_page": {"connections", "context", "labels", "transaction", "transaction_sources"},
    "payment_answers": {"spending"},
    "bolt11_payment": {"context", "spending"},
    "bolt12_payment": {"bolt11_payment", "context", "spending"},
    "methods": {
        "bolt11_payment",
        "bolt12_payment",
        "connections",
        "context",
        "hold_record",
        "invoice_record",
        "labels",
        "payment_answers",
        "spending",
        "transaction",
        "transaction_page",
    },
    "dispatch": {"connections", "context", "methods"},
    # It answers payments of before a restart as their methods do.
    "server": {"connections", "context", "dispatch", "payment_answers", "slots", "spending"},
}
# Loaded before it is known which Python this is, and which packages it has.
FIRST = ["nwc", "nwc.manifest", "nwc.origin", "nwc.bootstrap"]
# What does not belong into a layer at all: sockets, threads, clocks and lightningd in pure code.
PURE = {"asyncio", "socket", "threading", "time", "websockets", "pyln", "random", "subprocess"}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(path: Path) -> set[str]:
    """All modules a file imports, wherever in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            known = submodules & set(MODULES)
            found |= known or {node.module}
    return found


def part_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def room_of(module: str) -> str:
    return module.removeprefix("nwc.wallet.").split(".")[0]


IMPORTS = {name: imports_of(path) for name, path in MODULES.items()}
# dispatch.py imports the methods by name.
IMPORTS["nwc.wallet.dispatch"] |= {name for name in MODULES if name.startswith("nwc.wallet.methods.")}


def test_every_part_has_its_rule() -> None:
    assert {part_of(module) for module in MODULES} == set(ALLOWED)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module: str) -> None:
    part = part_of(module)
    parts = {part_of(name) for name in IMPORTS[module] if name.split(".")[0] == "nwc"}
    assert parts <= ALLOWED[part] | {part}


IN_WALLET = [name for name in MODULES if name.startswith("nwc.wallet.")]


def test_every_room_of_the_wallet_has_its_rule() -> None:
    assert {room_of(module) for module in IN_WALLET} == set(ROOMS)


@pytest.mark.parametrize("module", IN_WALLET)
def test_imports_between_the_rooms_of_the_wallet(module: str) -> None:
    room = room_of(module)
    rooms = {room_of(name) for name in IMPORTS[module] if part_of(name) == "nwc.wallet"}
    assert rooms <= ROOMS[room] | {room}


def test_the_rooms_of_the_wallet_have_no_cycle() -> None:
    assert len(list(TopologicalSorter(ROOMS).static_order())) == len(ROOMS)


def test_only_dispatch_imports_methods() -> None:
    others = [
        name
        for name in MODULES.keys() - {"nwc.wallet.dispatch"}
        if not name.startswith("nwc.wallet.methods.")
    ]
    imported = {name for module in others for name in IMPORTS[module]}
    assert not [name for name in imported if name.startswith("nwc.wallet.methods.")]


def test_commands_do_not_import_each_other() -> None:
    """Shared code is in arguments.py, with amounts.py and times.py, and in shown.py.

    nwc-connect is in two modules, and what an app is granted in a third.
    """
    shared = {f"nwc.commands.{name}" for name in ("amounts", "arguments", "shown", "times")}
    connect = {
        ("nwc.commands.connections", "nwc.commands.pairing"),
        ("nwc.commands.pairing", "nwc.commands.grant"),
    }
    ours = {name for name in MODULES if name.startswith("nwc.commands.")}
    others = {(name, used) for name in ours for used in IMPORTS[name] & ours - shared}
    assert others - {("nwc.commands", name) for name in ours} <= connect


def test_of_nostr_cln_uses_only_encodings() -> None:
    used = {name for module in MODULES if part_of(module) == "nwc.cln" for name in IMPORTS[module]}
    assert {name for name in used if part_of(name) == "nwc.nostr"} <= {
        "nwc.nostr.bech32",
        "nwc.nostr.encoding",
    }


def test_no_cycles() -> None:
    graph = {module: names & set(MODULES) for module, names in IMPORTS.items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(MODULES)


@pytest.mark.parametrize(
    "module",
    [name for name in MODULES if part_of(name) == "nwc.nip47"] + ["nwc.nostr.auth", "nwc.nostr.session"],
)
def test_protocols_have_no_clock_and_no_socket(module: str) -> None:
    assert not {name.split(".")[0] for name in IMPORTS[module]} & PURE


@pytest.mark.parametrize("module", FIRST)
def test_what_comes_before_the_packages_needs_none(module: str) -> None:
    others = {name for name in IMPORTS[module] if name not in FIRST}
    assert {name.split(".")[0] for name in others} <= sys.stdlib_module_names


@pytest.mark.parametrize("path", [*(MODULES[name] for name in [*FIRST, "nwc.nwc"]), ROOT / "plugin.py"])
def test_what_tells_an_old_python_off_is_readable_to_it(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=(3, 6))


def test_tests_are_not_imported() -> None:
    assert not [name for names in IMPORTS.values() for name in names if name.startswith("tests")]
