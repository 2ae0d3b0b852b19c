"""Invoices that lightningd's autoclean deletes, and the plugin's records of them."""

from pathlib import Path

import pytest

from tests.support.waiting import wait_until
from tests.wire.fixtures import Connect, ConnectedApp, wait_until_announced
from tests.wire.node import PLUGIN, MakeNode, NodeUnderTest
from tests.wire.test_receiving import listed, lookup, make

# The plugin with a short grace period before it deletes the record of a deleted invoice; it is a minute.
IMPATIENT_PLUGIN = f"""#!/usr/bin/env python3
import runpy, sys
sys.path.insert(0, {str(PLUGIN.parent)!r})
from nwc.wallet.invoice_record import SWEEP_GRACE_S, InvoiceRecords
assert InvoiceRecords.sweep.__defaults__ == (SWEEP_GRACE_S,)
InvoiceRecords.sweep.__defaults__ = (0.1,)
runpy.run_path({str(PLUGIN)!r}, run_name="__main__")
"""


@pytest.fixture
def node(make_node: MakeNode, tmp_path: Path) -> NodeUnderTest:
    """A node with the impatient plugin."""
    plugin = tmp_path / "impatient.py"
    plugin.write_text(IMPATIENT_PLUGIN)
    plugin.chmod(0o755)
    return make_node(plugin=plugin)


def records(node: NodeUnderTest, app: ConnectedApp) -> set[str]:
    """Return the request ids of an app's invoices that have a record."""
    key = ["nwc", "invoices", app.pubkey[:16]]
    return {entry["key"][3] for entry in node.rpc.call("listdatastore", {"key": key})["datastore"]}


def labels(node: NodeUnderTest) -> set[str]:
    """Return the request ids of all invoices."""
    return {invoice["label"].split(":")[2] for invoice in node.rpc.listinvoices()["invoices"]}


def autoclean(node: NodeUnderTest, subsystem: str) -> int:
    """Let autoclean delete what is at least a second old; return how much it deleted."""
    done = node.rpc.call("autoclean-once", {"subsystem": subsystem, "age": 1})
    return int(done["autoclean"][subsystem]["cleaned"])


def wait_until_cleaned(node: NodeUnderTest, subsystem: str) -> None:
    wait_until(lambda: autoclean(node, subsystem) == 1, f"autoclean to delete one of {subsystem}")


def test_a_cleaned_invoice_is_not_found_and_its_record_is_deleted(
    node: NodeUnderTest, connect: Connect
) -> None:
    app, whole = connect(), connect(view="node")
    paid, expired, unpaid = make(app), make(app, expiry=1), make(app)
    node.pay(paid["invoice"])
    app.wait_for_notifications(paid["payment_hash"])
    everything = records(node, app)
    assert everything == labels(node)
    assert len(everything) == 3

    wait_until_cleaned(node, "paidinvoices")
    wait_until_cleaned(node, "expiredinvoices")
    # The node has paid the first invoice itself, and that payment is still shown to `whole`.
    for deleted, apps in ((paid, [app]), (expired, [app, whole])):
        for each in apps:
            for key in ("payment_hash", "invoice"):
                assert each.ask("lookup_invoice", {key: deleted[key]}).code == "NOT_FOUND"
    for each in (app, whole):
        left = listed(each, unpaid=True, type="incoming")
        assert left == {"transactions": [unpaid], "total_count": 1}
    assert records(node, app) == everything

    node.stop_plugin()
    node.start_plugin()
    wait_until(
        lambda: records(node, app) == labels(node), "the records of deleted invoices to be deleted"
    )
    wait_until_announced(node, app.name)
    assert lookup(app, unpaid) == unpaid
    assert unpaid["metadata"]
