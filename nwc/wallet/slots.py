"""Places: a bound on what goes on at once, which no connection can use up for the others."""

from collections import Counter


class Slots:
    """Counts what goes on for each connection, and says who may begin more.

    Each connection has a few places of its own, which nobody else can take. Further ones come out of a
    pool that all share. So one that has nothing going on can always begin, whatever all others do.

    Args:
        own: places that each connection has to itself.
        most: places that one connection can have, those included.
        shared: places in the pool.

    """

    def __init__(self, *, own: int, most: int, shared: int) -> None:
        self._own = own
        self._most = most
        self._shared = shared
        self._taken: Counter[str] = Counter()
        self._taken_of_pool = 0

    @property
    def are_any_taken(self) -> bool:
        """True while anything goes on."""
        return bool(self._taken)

    @property
    def shared_taken(self) -> int:
        """How many places of the pool are taken."""
        return self._taken_of_pool

    def are_free(self, client_pubkey: str) -> bool:
        """True if this connection may begin one more."""
        taken = self._taken[client_pubkey]
        return taken < self._own or (taken < self._most and self._taken_of_pool < self._shared)

    def has_most(self, client_pubkey: str) -> bool:
        """True if this connection has as many as one can have."""
        return self._taken[client_pubkey] >= self._most

    def take(self, client_pubkey: str) -> None:
        """Count one that begins."""
        self._taken_of_pool += self._taken[client_pubkey] >= self._own
        self._taken[client_pubkey] += 1

    def give_back(self, client_pubkey: str) -> None:
        """Count one that has ended."""
        self._taken[client_pubkey] -= 1
        self._taken_of_pool -= self._taken[client_pubkey] >= self._own
        if not self._taken[client_pubkey]:
            del self._taken[client_pubkey]
