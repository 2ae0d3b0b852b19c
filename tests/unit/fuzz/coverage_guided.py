"""Coverage-guided fuzzing of the whole way of a request: `python -m tests.unit.fuzz.coverage_guided`.

It needs atheris (`pip install atheris`, where it has a wheel), which `make test` does not need. It takes
libFuzzer's options, such as -max_total_time=600, and a directory for its corpus. It prints and keeps
what it finds.
"""

import importlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

# A plugin's seen-set, history and failed payments grow, so it is replaced after so many inputs.
INPUTS_PER_WAY = 5000

MISSING = (
    "NOT RUN: atheris is not installed here; this fuzzer does nothing without it (pip install atheris)"
)


def load_instrumented() -> tuple[Any, Any, Any]:
    """Return the modules atheris, way and strategies; nwc is instrumented. Exit without atheris."""
    try:
        atheris = importlib.import_module("atheris")
    except ImportError:
        sys.exit(MISSING)
    with atheris.instrument_imports(include=["nwc"]):
        way = importlib.import_module("tests.unit.fuzz.way")
    return atheris, way, importlib.import_module("tests.unit.fuzz.strategies")


class Target:
    """Turns bytes into an input: the first byte selects the layer, the second the connection."""

    def __init__(self, way: Any, strategies: Any) -> None:
        self._modules = (way, strategies)
        self._way: Any = None
        self._inputs = 0

    def __call__(self, data: bytes) -> None:
        if len(data) < 2:
            return
        if self._inputs % INPUTS_PER_WAY == 0:
            self._begin()
        self._inputs += 1
        layer, connection, rest = data[0] % len(self.layers), data[1], data[2:]
        clients = list(self._way.clients.values())
        self.layers[layer](self, clients[connection % len(clients)], connection, rest)

    def _begin(self) -> None:
        way, strategies = self._modules
        if self._way is not None:
            self._way.close()
        plans = importlib.import_module("tests.double.plans")
        with chdir("."):
            self._way = way.Way(Path(tempfile.mkdtemp(prefix="nwc-fuzz-")))
        for payable in strategies.payables():
            plans.keep_preimage(self._way.double.state, payable.preimage)

    # The layers

    def frame(self, _client: Any, _number: int, rest: bytes) -> None:
        """A frame of a relay."""
        assert self._way.deliver(rest.decode(errors="surrogateescape")) == []

    def event(self, client: Any, number: int, rest: bytes) -> None:
        """The content and the tags of an event that the client signs."""
        text = rest.decode(errors="replace")
        tags = [["p", client.wallet_pubkey], ["encryption", ("nip44_v2", "nip04", text)[number % 3]]]
        request = client.event(text, [*tags, ["expiration", text]])
        for answer in self._way.deliver(self._frame(request)):
            client.open(answer, request)

    def plaintext(self, client: Any, number: int, rest: bytes) -> None:
        """The bytes that the client encrypts."""
        way = self._modules[0]
        scheme = list(way.Encryption)[number // 16 % 2]
        request = client.request(way.RawText(rest or b" "), scheme)
        answers = self._way.deliver(self._frame(request))
        assert len(answers) == 1
        for answer in answers:
            client.open(answer, request)

    def params(self, client: Any, number: int, rest: bytes) -> None:
        """The parameters of a method."""
        method = list(self._modules[1].METHODS)[number // 4 % len(self._modules[1].METHODS)]
        text = f'{{"method":"{method}","params":{rest.decode(errors="replace")}}}'
        self._way.ask(client, client.request(text))

    def invoice(self, client: Any, number: int, rest: bytes) -> None:
        """The words of an unsigned invoice."""
        bech32 = self._modules[1].bech32
        prefix = ("lnbcrt", "lnbcrt10n", "lnbcrt1p", "lnbc")[number // 8 % 4]
        invoice = bech32.encode(prefix, bytes(byte % 32 for byte in rest) + bytes(104))
        method = ("pay_invoice", "lookup_invoice")[number // 4 % 2]
        text = json.dumps({"method": method, "params": {"invoice": invoice, "amount": 1000}})
        self._way.ask(client, client.request(text))

    layers = (frame, event, plaintext, params, invoice)

    def _frame(self, request: Any) -> Any:
        return self._modules[0].event_frame(request)


def seeds(strategies: Any) -> Iterator[bytes]:
    """Yield the first inputs, some for each layer."""
    event = {"id": "", "pubkey": "", "created_at": 1, "kind": 1, "tags": [], "content": "", "sig": ""}
    yield from (
        b"\0\0" + json.dumps(message).encode()
        for message in (
            ["EVENT", "nwc1", event],
            ["OK", "x", True, ""],
            ["CLOSED", "nwc1", "auth-required:"],
            ["AUTH", "x"],
        )
    )
    yield from (b"\1" + bytes([number]) + b"1800000000" for number in range(3))
    yield from (b"\2\0" + text.encode() for text in ('{"method":"get_info"}', "[]", '{"method":1e999}'))
    invoice = strategies.payables()[7].invoice
    asked = {
        "make_invoice": {"amount": 1000, "description": "é", "description_hash": "0" * 64, "expiry": 60},
        "lookup_invoice": {"payment_hash": "0" * 64, "invoice": invoice},
        "list_transactions": {"from": 1, "until": 2**31, "limit": 3, "offset": 1, "unpaid": True},
        "pay": {"payment": f"bitcoin:?lightning={invoice}", "amount": 7000, "payer_note": "x"},
        "pay_invoice": {"invoice": invoice, "amount": 7000, "max_fee": 10, "metadata": {"a": [1.5]}},
        "pay_keysend": {
            "amount": 1000,
            "pubkey": "02" + "ab" * 32,
            "tlv_records": [{"type": 65_536, "value": "ab"}],
        },
    }
    for index, method in enumerate(strategies.METHODS):
        for connection in range(4):
            start = bytes([3, index * 4 + connection])
            yield start + json.dumps(asked.get(method, {})).encode()
    _, words = strategies.bech32.decode(invoice)
    yield from (b"\4" + bytes([number]) + words[:-104] for number in range(0, 32, 4))


def main() -> None:
    """Fuzz until libFuzzer's limits are reached or something is found."""
    atheris, way, strategies = load_instrumented()
    corpus = Path(tempfile.mkdtemp(prefix="nwc-corpus-"))
    for number, seed in enumerate(seeds(strategies)):
        (corpus / f"seed-{number}").write_bytes(seed)
    # The double writes its log to standard output; libFuzzer writes to standard error.
    sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - until the end
    atheris.Setup([*sys.argv, "-max_len=4096", str(corpus)], Target(way, strategies))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
