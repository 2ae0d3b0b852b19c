"""Which events have been handled already, however many relays deliver them."""

from collections import OrderedDict

MAX_SEEN = 100_000


class SeenEvents:
    """A bounded memory of event ids.

    Only events whose signature was checked may be added: a forged copy that comes first would
    otherwise shut out the real one.
    """

    def __init__(self, max_seen: int = MAX_SEEN) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()
        self._max_seen = max_seen

    def __contains__(self, event_id: str) -> bool:
        return event_id in self._ids

    def add(self, event_id: str) -> None:
        """Remember an id; the oldest goes when there are too many."""
        self._ids[event_id] = None
        if len(self._ids) > self._max_seen:
            self._ids.popitem(last=False)
