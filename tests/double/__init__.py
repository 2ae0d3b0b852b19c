"""A test double of lightningd.

It runs a plugin exactly as lightningd does (plugin protocol on stdio, JSON-RPC on a unix socket,
validly signed invoices) on machines without lightningd. It follows Core Lightning v26.06.6. With
`--dev-version` it plays another version, from v25.02 to v27.03, as far as the difference matters to
the plugin. It has no peers, hooks or chain: dev methods set what they would have done. A payment
moves its parts through the states of lightningd, and a plan decides how it ends.

Modules:
- `process`: the handle for tests
- `settings`, `options`: the command line
- `node`: wires the rest
- `rpc_server`: the socket; `params`: parameters and errors; `jsonio`: JSON on the wire
- `rpc_methods`, `invoices`, `payments`, `sendpays`, `channels`, `decoding`, `datastore`, `wait`,
  `sql`: commands
- `offers`: BOLT12 offers, what is fetched for them, proofs
- `pay_commands`, `pay_styles`, `paying`, `plans`: the commands that pay
- `dev_methods`, `bulk`: commands that lightningd does not have
- `plugin`, `plugin_host`: one plugin process, all of them
- `state`: SQLite; `bolt11`, `bolt12`; `log`
"""
