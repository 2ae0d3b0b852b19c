"""Tests of the plugin as a process: on the double of lightningd, and on lightningd itself.

Each test runs on both kinds of node (fixture `node_kind`). Those that only one kind can run are in
only_double/ and only_lightningd/. A test asks for the fixtures `node`, `make_node` and `payee`, and for
those of fixtures.py.
"""

import pytest

# Modules with assertions that are not test modules; pytest has to know them before they are imported.
pytest.register_assert_rewrite(
    "tests.support.app",
    "tests.support.channel",
    "tests.wire.fixtures",
    "tests.wire.network",
    "tests.wire.paying",
    "tests.wire.only_double",
    "tests.wire.only_lightningd",
)
