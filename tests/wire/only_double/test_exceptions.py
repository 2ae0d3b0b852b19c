"""Unexpected exceptions that contain a client's words: the log shows only where they were raised.

They are not tested on real lightningd, because pyln-testing counts any error in its log as a fault.
"""

from pathlib import Path

from tests.support.waiting import wait_until
from tests.wire.fixtures import Connect
from tests.wire.node import MakeNode

RAISING_PLUGIN = Path(__file__).parents[2] / "support" / "raising_plugin.py"
SECRET = "correct horse battery staple"


def test_exceptions_are_logged_without_their_messages(make_node: MakeNode, connect: Connect) -> None:
    node = make_node(plugin=RAISING_PLUGIN)
    app = connect(node=node)
    since = node.mark()
    assert app.ask("make_invoice", {"amount": 1, "description": SECRET}).code == "INTERNAL"
    for regex, count in (
        (f"make_invoice of '{app.name}' failed", 1),
        ("a background task failed", 1),
        ("an error in the event loop", 2),
    ):
        wait_until(lambda regex=regex: node.log_text().count(regex), regex)  # type: ignore[misc]
        assert node.log_text().count(regex) == count
    log = node.log_text().splitlines()[since:]
    for line in ("Traceback (most recent call last):", "in fail", "KeyError", "ValueError"):
        assert len([logged for logged in log if logged.endswith(line)]) >= 4, line
    assert SECRET not in "\n".join(log)
