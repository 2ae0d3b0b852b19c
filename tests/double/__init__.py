"""A test double of lightningd.

It runs a plugin exactly as lightningd does (plugin protocol on stdio, JSON-RPC on a unix socket,
really signed invoices) on machines without lightningd. It follows Core Lightning v26.06.6. With
`--dev-version` it plays another version, from v25.02 to v27.03, as far as the plugin meets the
difference. What it leaves out is paying, channels, hooks and the chain: dev methods write down what
those would have done.

Rooms: `settings` and `options` (command line), `node` (wires the rest), `rpc_server` (socket),
`params` (parameters and errors), `rpc_methods`, `invoices`, `payments`, `datastore`, `sql`,
`dev_methods`, `bulk` (commands),
`plugin` (one plugin process), `plugin_host` (all of them), `state` (SQLite), `bolt11`, `jsonio`,
`log`; `process` is the handle for tests.
"""
