"""Cases that hold for any node: the test double in tests/plugin, real lightningd in tests/integration.

A case is a test function that asks for the fixtures `node` (module scope, see node.py), `make_node` and
those of fixtures.py. A conftest.py that supplies the first two, started with BASE_OPTIONS and with the
URL of the fixture `relay` as nwc-relay, runs all cases by importing them, as tests/plugin does:

    from tests.cases.fixtures import *      # in conftest.py
    from tests.cases.make_invoice import *  # in test_make_invoice.py

Nothing here knows the double's dev-* methods; cases that need them are in tests/plugin.
"""
