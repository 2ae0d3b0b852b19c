"""The base class of every error that the plugin defines, and the tree of them.

::

    NwcError
    ├── Nip47Error               nip47/errors.py   the client gets this error code and text
    ├── NodeError                cln/errors.py     a call to lightningd has failed
    │   ├── RpcCallError           lightningd answered with an error
    │   │   └── PayCommandError    cln/payer.py: a command that pays did
    │   └── NodeUnavailableError   lightningd gave no answer, or an unreadable one
    ├── OnionTooLargeError       cln/onion.py      no onion has room for the payment
    ├── EventError               nostr/event.py    an event is malformed or forged
    ├── MessageError             nostr/messages.py a frame is not a relay message
    ├── DecryptionError          nostr/encoding.py a payload cannot be decrypted
    ├── RecordError              wallet/records.py a stored record cannot be read
    │   ├── DamagedRecordError     no version of the plugin has written it
    │   └── RecordVersionError     it has no version that this plugin reads
    │       └── NewerRecordError     a newer version of the plugin has written it
    ├── BudgetExceededError      wallet/spending/ledger.py      a payment costs more than is left
    ├── UnreadableRecordError    wallet/spending/payment_records.py  a stored payment cannot be read
    ├── ManagementError          wallet/connections/manager.py  a command of the owner is refused
    ├── StillStoredError         wallet/connections/manager.py  a revoked connection is still stored
    ├── OptionError              options.py        an option of the plugin breaks its rule
    └── ArgumentError            commands/arguments.py  an argument of a command breaks its rule

Errors of parsers are a ValueError as well. An error is translated once, at the border of its layer: for
apps in wallet/dispatch.py, for the owner in runner.py.
"""


class NwcError(Exception):
    """Base class of the plugin's own errors."""
