"""An event loop whose time passes only where everything waits for it, and then at once."""

import asyncio
import selectors


class Deadlock(Exception):
    """Everything waits, and for no time."""


class _Selector(selectors.SelectSelector):
    """Never waits: moves its clock on by what it was to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if not events and timeout is None:
            raise Deadlock
        if not events and timeout:
            self.now += timeout
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """Sleeping for a day takes no time. Begins at 0 seconds."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)
        self.set_debug(False)  # it would warn of steps that take long by this clock

    def time(self) -> float:
        return self._virtual.now

    def end(self) -> None:
        """Cancel what still runs, and close."""
        tasks = asyncio.all_tasks(self)
        for task in tasks:
            task.cancel()

        async def cancelled() -> None:
            await asyncio.gather(*tasks, return_exceptions=True)

        self.run_until_complete(cancelled())
        self.close()
