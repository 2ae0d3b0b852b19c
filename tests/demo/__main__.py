"""A real NWC client asks a node for invoices: `python -m tests.demo [--keep]`.

If the node is real, an app also pays a BOLT12 offer of a second one.
It ends by itself, leaves no process or file behind, and exits with 0 if every answer was right.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import psutil  # type: ignore[import-untyped]
from nostr_sdk import MakeInvoiceRequest, NostrSdkError, NostrWalletConnect, NostrWalletConnectUri

from nwc.nip47.methods import METHODS, served_methods
from tests.demo.shop import FAST, Shop
from tests.demo.terminal import INDENT, command, fact, field, say, styled, title
from tests.support.app import App
from tests.support.node import (
    PLUGIN,
    Node,
    OptionValue,
    RegtestNode,
    lightning_cli,
    missing_programs,
    node_with_plugin,
)
from tests.support.processes import nothing_left_running
from tests.support.relay import RelayKind, running_relay

APP = "My phone"
ANSWER_TIMEOUT_S = 20
TICKET_MSAT = 42_000
# As of an LNURL-pay server: the invoice commits to a text that the node never sees.
LNURL_METADATA = '[["text/plain","Sats for the ferry"],["text/identifier","ferry@example.com"]]'
INVOICES: dict[str, dict[str, Any]] = {
    "with a description": {"amount": 21_000, "description": "Coffee and a croissant"},
    "with a bare description_hash": {
        "amount": 150_000,
        "description_hash": hashlib.sha256(LNURL_METADATA.encode()).hexdigest(),
    },
    "for any amount": {"amount": 0, "description": "Tips"},
}

_T = TypeVar("_T")


class DemoFailed(Exception):
    """The demonstration cannot continue; the message is for people."""


class Demo:
    """The steps of the demonstration.

    Attributes:
        wrong: number of fields that had another value than expected.

    """

    def __init__(self, node: Node) -> None:
        self.wrong = 0
        self._node = node
        self._rpc = node.rpc

    def show_setting(self, relay_url: str) -> None:
        """Print which programs take part."""
        info = self._rpc.getinfo()
        node = f"lightningd {info['version']} with bitcoind, on {info['network']}"
        if missing := missing_programs():
            node = f"a TEST DOUBLE of lightningd; not on PATH: {', '.join(missing)}"
        title("Nostr Wallet Connect for Core Lightning: a demonstration")
        fact("node", node)
        fact("plugin", str(PLUGIN))
        fact("relay", f"{relay_url}  (nostr_sdk.LocalRelay)")
        fact("app", "nostr_sdk.NostrWalletConnect")

    def connect(self) -> str:
        """Run nwc-connect as a person does, and return the URI.

        Raises:
            DemoFailed: the command failed.

        """
        title("The owner of the node creates a connection for an app")
        line = lightning_cli(self._node, "nwc-connect", APP)
        if isinstance(self._node, RegtestNode):
            done = subprocess.run(line, check=False, capture_output=True, text=True)
            command(shlex.join(line), done.stdout + done.stderr)
            if done.returncode:
                raise DemoFailed("nwc-connect failed")
            connection = json.loads(done.stdout)
        else:
            connection = self._rpc.call("nwc-connect", [APP])
            say("(the command of lightning-cli; here it goes directly to the double's RPC socket)")
            command(shlex.join(line), json.dumps(connection, indent=3))
        say()
        say("The URI holds the app's secret. It is shown here because this is a demo on regtest.")
        uri: str = connection["uri"]
        return uri

    async def ask_for_everything(self, uri: str) -> None:
        """Send all requests as the app with this URI, and check the answers.

        Raises:
            DemoFailed: an answer is an error, or there is none in time.

        """
        app = NostrWalletConnect(NostrWalletConnectUri.parse(uri))
        await self._ask_for_info(app)
        for description, params in INVOICES.items():
            await self._ask_for_invoice(app, description, params)

    async def _ask_for_info(self, app: Any) -> None:
        title("The app asks for information about the node")
        info = await self._ask("get_info", app.get_info(), {})
        node = self._rpc.getinfo()
        receiving = [
            name
            for name in served_methods(has_hold=False)
            if not (METHODS[name].spends or METHODS[name].only_by_name)
        ]
        methods = " ".join(sorted(_method_name(method) for method in info.methods))
        self._check("answer", "alias", info.alias, node["alias"])
        self._check("", "pubkey", info.pubkey, node["id"])
        self._check("", "network", info.network, node["network"])
        self._check("", "block_height", info.block_height, node["blockheight"])
        self._check("", "methods", methods, " ".join(sorted(receiving)))

    async def _ask_for_invoice(self, app: Any, description: str, params: dict[str, Any]) -> None:
        title(f"The app asks for an invoice {description}")
        request = MakeInvoiceRequest(
            **{"description": None, "description_hash": None, "expiry": None, **params}
        )
        answer = await self._ask("make_invoice", app.make_invoice(request), params)
        field("answer", "invoice", answer.invoice)
        field("", "payment_hash", answer.payment_hash)
        self._check("", "amount", answer.amount, params["amount"])
        decoded = self._rpc.decode(answer.invoice)
        self._check("decoded", "valid", decoded["valid"], True)
        self._check("", "payee", decoded["payee"], self._rpc.getinfo()["id"])
        self._check("", "amount_msat", decoded.get("amount_msat", "any"), params["amount"] or "any")
        for name in ("description", "description_hash"):
            if name in params or name in decoded:
                self._check("", name, decoded.get(name), params.get(name))
        self._check("", "payment_hash", decoded["payment_hash"], answer.payment_hash)
        self._check("", "expiry", decoded["expiry"], _lifetime(answer, decoded["expiry"]))

    def pay_offer(self, shop: Shop) -> None:
        """Pay an offer of another node, as an app with a budget.

        Raises:
            DemoFailed: the answer is an error, or there is none in time.

        """
        offer = shop.offer(TICKET_MSAT, "A ticket for the ferry")
        given = {"name": "Ferry app", "budget": f"{2 * TICKET_MSAT}msat"}
        uri = self._rpc.call("nwc-connect", given)["uri"]
        title("An app with a budget pays a BOLT12 offer of another node")
        params = {"payment": f"bitcoin:?lno={offer}", "payer_note": "See you on board ⛴"}
        field("request", "method", "pay")
        for name, value in params.items():
            field("", name, value)
        with App(uri) as app:
            answer = app.ask("pay", params)
        if answer.body["error"]:
            raise DemoFailed(f"pay: {answer.message}")
        self._check_paid(shop, answer.result, params["payer_note"])

    def _check_paid(self, shop: Shop, result: dict[str, Any], payer_note: str) -> None:
        self._check("answer", "state", result["state"], "settled")
        self._check("", "instruction_type", result["instruction_type"], "bolt12")
        self._check("", "amount", result["amount"], TICKET_MSAT)
        preimage = bytes.fromhex(result["preimage"])
        self._check("", "payment_hash", result["payment_hash"], hashlib.sha256(preimage).hexdigest())
        [sold] = shop.rpc.listinvoices()["invoices"]
        self._check("shop", "status", sold["status"], "paid")
        self._check("", "payer_note", sold["invreq_payer_note"], payer_note)
        if "payer_proof" not in result:  # before v26.06
            return
        field("answer", "payer_proof", result["payer_proof"])
        proof = self._rpc.decode(result["payer_proof"])
        self._check("decoded", "type", proof["type"], "bolt12 payer_proof")
        self._check("", "proof_preimage", proof["proof_preimage"], result["preimage"])

    async def _ask(self, method: str, asking: Coroutine[Any, Any, _T], params: dict[str, Any]) -> _T:
        field("request", "method", method)
        for name, value in params.items():
            field("", name, value)
        begin = time.monotonic()
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                answer = await asking
        except NostrSdkError as error:
            raise DemoFailed(f"{method}: {error}") from None
        except TimeoutError:
            raise DemoFailed(f"{method}: no answer within {ANSWER_TIMEOUT_S} s") from None
        fact("", f"answered after {(time.monotonic() - begin) * 1000:.0f} ms")
        return answer

    def _check(self, label: str, name: str, value: object, expected: object) -> None:
        is_right = value == expected
        self.wrong += not is_right
        field(label, name, value if is_right else f"{value}, not {expected}", is_right)


def _method_name(method: Any) -> str:
    """Return a method in NIP-47's spelling, also if rust-nostr does not know it."""
    if method.is_unknown():
        return str(method.unknown)
    return type(method).__name__.rpartition(".")[2].lower()


def _lifetime(answer: Any, expiry: int) -> int:
    """Return the lifetime in the answer, in seconds; `expiry` if it is one second longer than that.

    lightningd counts from the time when it stores the invoice, which can be a second after the
    timestamp in it.
    """
    lifetime: int = answer.expires_at.as_secs() - answer.created_at.as_secs()
    return expiry if lifetime == expiry + 1 else lifetime


def _owners_command(node: Node) -> list[str]:
    if shutil.which("lightning-cli"):
        return lightning_cli(node, "nwc-list")
    call = f'from pyln.client import LightningRpc as R; print(R("{node.socket}").call("nwc-list"))'
    return [sys.executable, "-c", call]


def stay(node: Node, uri: str) -> None:
    """Keep the node running for a person's own client, until Ctrl-C or the end of the node."""
    title("Still running. The URI for your own client on this machine:")
    print(f"\n{uri}\n")
    say("For the owner's side, run in another terminal:")
    say("  " + shlex.join(_owners_command(node)))
    say("End it with Ctrl-C.")
    with contextlib.suppress(KeyboardInterrupt):
        psutil.Process(node.pid).wait()


def _options(relay_url: str) -> dict[str, OptionValue]:
    fast = {} if missing_programs() else FAST
    return {"nwc-relay": relay_url, **fast}


def run(*, keep: bool) -> int:
    """Run the demonstration and return the exit code."""
    with (
        nothing_left_running(),
        tempfile.TemporaryDirectory(prefix="nwc-demo-") as directory,
        running_relay(RelayKind.NOSTR_SDK) as relay,
        node_with_plugin(Path(directory) / "node", _options(relay.url)) as node,
    ):
        demo = Demo(node)
        demo.show_setting(relay.url)
        uri = demo.connect()
        asyncio.run(demo.ask_for_everything(uri))
        if isinstance(node, RegtestNode):
            with Shop(node, Path(directory) / "shop") as shop:
                demo.pay_offer(shop)
        if demo.wrong:
            raise DemoFailed(f"{demo.wrong} fields are WRONG")
        title(styled("good", "Every answer was right."))
        if keep:
            stay(node, uri)
    return 0


def main() -> int:
    """Read the command line, run the demonstration and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.demo", description=__doc__)
    parser.add_argument(
        "--keep", action="store_true", help="keep running for your own client, until Ctrl-C"
    )
    keep = parser.parse_args().keep
    try:
        return run(keep=keep)
    except DemoFailed as error:
        print(f"\n{INDENT}{styled('bad', 'FAILED')}: {error}")
        return 1
    except KeyboardInterrupt:
        print(f"\n{INDENT}Stopped.")
        return 130


if __name__ == "__main__":
    sys.exit(main())
