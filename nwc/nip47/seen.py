"""Which requests have been seen already: several relays may deliver the same event."""

# 10 MB when full. A client that is always over its rate limit adds about 20 a second (nwc-rate-limit).
# Requests of more than two minutes ago are stale (nwc-max-request-age).
MAX_SEEN = 65_536


class SeenEvents:
    """A bounded set of event ids.

    Add only events whose signature is valid. Otherwise a forged copy that arrives first would shut out
    the real event, and anyone could push ids out of the set. Clients can push ids out, but this does no
    harm: a request that is served twice makes no second invoice and no second payment.

    Ids are kept as bytes, in two halves. This takes half the memory of an OrderedDict.
    """

    def __init__(self, max_seen: int = MAX_SEEN) -> None:
        self._newer: set[bytes] = set()
        self._older: set[bytes] = set()
        self._half = max_seen // 2

    def __contains__(self, event_id: str) -> bool:
        key = bytes.fromhex(event_id)
        return key in self._newer or key in self._older

    def add(self, event_id: str) -> None:
        """Add an id; if the set is full, drop the older half first."""
        if len(self._newer) >= self._half:
            self._older, self._newer = self._newer, set()
        self._newer.add(bytes.fromhex(event_id))
