"""The requests of a hostile app: a random mixture of all that have ever done harm, and of noise.

The same seed gives the same requests, except for keys and hashes.
"""

import random
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.support.channel import Json
from tests.support.forged import Hop, forged_invoice, invented_nodes, public_key

Request = tuple[str, Json]
# The failure codes with which the hostile app's payee refuses HTLCs, in hex; BOLT4 defines some of them.
FAILURES = ("4010", "3fff", "0000", "2002", "400f")
MODES = ("accept", "accept", "hold", *(f"refuse {failure}" for failure in FAILURES))
_AMOUNTS_MSAT = (0, 1, 999, 1000, 5_000, 400_000, 10**6, 10**9, 10**11, 2**62, 2**63, 2**64)


@dataclass(frozen=True)
class Scene:
    """The nodes that the hostile app knows.

    Attributes:
        payer, middle, payee: node ids.
        invoice: makes an invoice of the payee for an amount in msat; None is for any amount.
        own_invoice: makes an invoice of the payer for an amount in msat.
        offer: an offer of the payee (BOLT12).

    """

    payer: str
    middle: str
    payee: str
    invoice: Callable[[int | None], str]
    own_invoice: Callable[[int], str]
    offer: str


class Attacks:
    """An endless supply of requests.

    Args:
        rng: source of all choices, from the seed.
        scene: the nodes they concern.

    """

    def __init__(self, rng: random.Random, scene: Scene) -> None:
        self._rng = rng
        self._scene = scene
        self._invoices: list[str] = []

    def __iter__(self) -> Iterator[list[Request]]:
        """Yield bursts, most of them of one request."""
        attacks = [
            (8, self._small_payment),
            (4, self._small_keysend),
            (3, self._strange_keysend),
            (3, self._any_amount),
            (4, self._large_amount),
            (8, self._forged),
            (4, self._broken_invoice),
            (2, self._again),
            (2, self._noise),
            (1, self._own),
            (1, self._bolt12),
        ]
        weights, makers = [weight for weight, _ in attacks], [maker for _, maker in attacks]
        while True:
            [make] = self._rng.choices(makers, weights)
            count = self._rng.choice((1, 1, 1, 1, 1, 5, 30))
            yield [make() for _ in range(count)]

    # Payments that may succeed

    def _small_payment(self) -> Request:
        return "pay_invoice", {
            "invoice": self._invoice(self._rng.choice((1, 1000, 1000, 3000))),
            **self._rng.choice(
                ({}, {}, {"max_fee": 0}, {"max_fee": 10**9}, {"metadata": {"a": "b" * 500}})
            ),
        }

    def _small_keysend(self) -> Request:
        return "pay_keysend", {"amount": self._rng.choice((1, 1000, 2000)), "pubkey": self._scene.payee}

    def _any_amount(self) -> Request:
        amount = self._rng.choice(_AMOUNTS_MSAT)
        return "pay_invoice", {"invoice": self._invoice(None), "amount": amount}

    def _again(self) -> Request:
        """Return a payment of an earlier invoice, which is paid, refused or pending."""
        invoice = self._rng.choice(self._invoices) if self._invoices else self._invoice(1000)
        return "pay_invoice", {"invoice": invoice}

    # Payments that usually fail

    def _large_amount(self) -> Request:
        """Return a payment above the budget, in most cases also above the capacity of all channels."""
        amount = self._rng.choice((1_001_000, 500_000_000, 1_450_000_000, 10**11, 10**15))
        if self._rng.random() < 0.5:
            return "pay_keysend", {"amount": amount, "pubkey": self._scene.middle}
        return "pay_invoice", {"invoice": self._invoice(amount)}

    def _strange_keysend(self) -> Request:
        """Return a keysend to any key, also our own or an unknown one, with records of many sizes."""
        nobody = public_key(secrets.token_bytes(32)).hex()
        records = [
            {
                "type": self._rng.choice((1, 65_537, 2**32 + 1, 2**63 + 1, 2**64 - 1)) + 2 * number,
                "value": "00" * self._rng.choice((0, 1, 20, 200)),
            }
            for number in range(self._rng.choice((0, 1, 5, 50, 51)))
        ]
        return "pay_keysend", {
            "amount": self._rng.choice(_AMOUNTS_MSAT),
            "pubkey": self._rng.choice((self._scene.payee, self._scene.payer, nobody, "02" * 33, "zz")),
            "tlv_records": records,
        }

    def _forged(self) -> Request:
        """Return a payment to an unknown node, with hints of all kinds and fields at their limits."""
        key = secrets.token_bytes(32)
        known = [
            bytes.fromhex(id_) for id_ in (self._scene.payer, self._scene.middle, self._scene.payee)
        ]
        nodes = [*known, *known, public_key(key), *invented_nodes(3)]
        pick = self._rng.choice((self._rng.choices, self._rng.sample, self._rng.sample))
        nodes = self._rng.choice((nodes, [known[2], *invented_nodes(6)]))
        hints = [
            pick(nodes, k=self._rng.choice((0, 1, 1, 2, 3, 6)))
            for _ in range(self._rng.choice((0, 1, 1, 2, 5, 20, 40)))
        ]
        hop = Hop(
            self._rng.choice((0, 0, 1, 1000, 2**32 - 1)),
            self._rng.choice((0, 0, 1, 10_000, 2**32 - 1)),
            self._rng.choice((0, 6, 6, 144, 2**16 - 1)),
        )
        invoice = forged_invoice(
            self._rng.choice((1, 1000, 300_000, 900_000)),
            hints,
            metadata=b"\1" * self._rng.choice((0, 0, 1, 200, 639)),
            key=key,
            hop=hop,
            min_final_cltv_expiry=self._rng.choice((0, 18, 18, 18, 144, 2016, 2**16, 2**32 - 1, 2**32)),
            features=self._rng.choice((0, 0x4100, 0x24100, 0x24100, 0x24100, 1 << 17, 1 << 262)),
            expiry=self._rng.choice((1, 3600, 3600, 2**40)),
        )
        return "pay_invoice", {"invoice": invoice}

    def _broken_invoice(self) -> Request:
        invoice = self._invoice(1000)
        at = self._rng.randrange(len(invoice))
        broken = self._rng.choice(
            (
                invoice[:at],
                invoice[:at] + "q" + invoice[at + 1 :],
                invoice[:at] + invoice[at:] * 3,
                invoice.upper(),
                f"lightning:{invoice}",
                invoice.replace("lnbcrt", "lnbc", 1),
                "lnbcrt1" + "q" * at,
                "x" * 20_000,
            )
        )
        return "pay_invoice", {"invoice": broken}

    def _own(self) -> Request:
        return "pay_invoice", {"invoice": self._scene.own_invoice(1000)}

    def _bolt12(self) -> Request:
        return "pay_invoice", {"invoice": self._scene.offer}

    def _noise(self) -> Request:
        return self._rng.choice(
            (
                ("list_transactions", {"unpaid": True, "limit": 10**9}),
                ("lookup_invoice", {"payment_hash": secrets.token_hex(32)}),
                ("get_balance", {}),
                ("get_info", {}),
                ("make_invoice", {"amount": 2**64}),
                ("make_invoice", {"amount": 1, "description": "x" * 5000}),
                ("pay_invoice", {"invoice": 1}),
                ("pay_invoice", {}),
                ("multi_pay_invoice", {"invoices": []}),
            )
        )

    def _invoice(self, amount_msat: int | None) -> str:
        invoice = self._scene.invoice(amount_msat)
        self._invoices = [*self._invoices, invoice][-500:]
        return invoice
