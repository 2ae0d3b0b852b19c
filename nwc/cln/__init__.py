"""lightningd: RPC, datastore, BOLT11 and the `nwc-*` commands.

Knows no relay and no encryption; what a request may do is decided in `nwc.wallet`."""
