from collections.abc import AsyncIterator

import pytest

from nwc.wallet import notifier, paid_invoices
from tests.double.node import Node as Double
from tests.unit.wallet.scene import Scene


@pytest.fixture
async def scene(lightningd: Double, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """The parts that notify of payments; they retry without delay."""
    monkeypatch.setattr(notifier, "RETRY_FIRST_S", 0)
    monkeypatch.setattr(paid_invoices, "RETRY_FIRST_S", 0)
    monkeypatch.setattr(paid_invoices, "RETRY_MAX_S", 0)
    scene = Scene(lightningd)
    yield scene
    await scene.stop()
