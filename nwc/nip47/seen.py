"""Which events have been handled already, however many relays deliver them."""

# 10 MB when full. A client that is always over its rate limit adds some 20 a second (nwc-rate-limit),
# and what is older than two minutes is stale (nwc-max-request-age).
MAX_SEEN = 65_536


class SeenEvents:
    """A bounded memory of event ids.

    Only events whose signature was checked may be added: a forged copy that comes first would
    otherwise shut out the real one, and a stranger could have us forget. That clients can have us forget
    does no harm: a request that is served twice makes no second invoice and no second payment.

    Kept in two halves, as bytes: so an id takes half the memory of one in an OrderedDict.
    """

    def __init__(self, max_seen: int = MAX_SEEN) -> None:
        self._newer: set[bytes] = set()
        self._older: set[bytes] = set()
        self._half = max_seen // 2

    def __contains__(self, event_id: str) -> bool:
        key = bytes.fromhex(event_id)
        return key in self._newer or key in self._older

    def add(self, event_id: str) -> None:
        """Remember an id; when there are too many, the older half goes."""
        if len(self._newer) >= self._half:
            self._older, self._newer = self._newer, set()
        self._newer.add(bytes.fromhex(event_id))
