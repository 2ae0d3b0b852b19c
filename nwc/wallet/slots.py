"""Slots: a limit on what runs at once, such that no connection can use up the slots of the others."""

from collections import Counter


class Slots:
    """Counts the slots that each connection holds, and says which connection may take one more.

    Each connection has a few slots of its own, which no other can take. Further ones come from a pool
    that all connections share. So a connection that holds none can always take one, whatever the others
    do.

    Args:
        own: slots that each connection has to itself.
        most: slots that one connection can hold, its own included.
        shared: slots in the pool.

    Attributes:
        shared_taken: how many slots of the pool are taken.

    """

    def __init__(self, *, own: int, most: int, shared: int) -> None:
        self._own = own
        self._most = most
        self._shared = shared
        self._taken: Counter[str] = Counter()
        self.shared_taken = 0

    def are_free(self, client_pubkey: str) -> bool:
        """Return True if this connection may take one more slot."""
        taken = self._taken[client_pubkey]
        return taken < self._own or (taken < self._most and self.shared_taken < self._shared)

    def has_maximum(self, client_pubkey: str) -> bool:
        """Return True if this connection holds as many slots as one connection can."""
        return self._taken[client_pubkey] >= self._most

    def take(self, client_pubkey: str) -> None:
        """Take a slot for this connection."""
        self.shared_taken += self._taken[client_pubkey] >= self._own
        self._taken[client_pubkey] += 1

    def give_back(self, client_pubkey: str) -> None:
        """Give back a slot of this connection."""
        self._taken[client_pubkey] -= 1
        self.shared_taken -= self._taken[client_pubkey] >= self._own
        if not self._taken[client_pubkey]:
            del self._taken[client_pubkey]
