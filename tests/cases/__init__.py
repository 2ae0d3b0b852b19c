"""Cases that run on any node: on the double in tests/plugin, on real lightningd in tests/integration.

A case is a test function. It uses the fixtures `node` (module scope, see node.py), `make_node` and those
of fixtures.py. A conftest.py has to supply `node` and `make_node`, started with BASE_OPTIONS and with
the URL of the fixture `relay` as nwc-relay. Cases run where they are imported, as in tests/plugin:

    from tests.cases.fixtures import *      # in conftest.py
    from tests.cases.make_invoice import *  # in test_make_invoice.py

Nothing here uses the double's dev-* methods; tests that need them are in tests/plugin.
"""
