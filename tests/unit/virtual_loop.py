"""An event loop with virtual time: when all tasks wait, the clock jumps to the next timer."""

import asyncio
import selectors


class Deadlock(Exception):
    """All tasks wait, and there is no timer."""


class _Selector(selectors.SelectSelector):
    """Advances its clock by each timeout instead of waiting."""

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
    """Sleeping for a day takes no time. The clock starts at 0 seconds."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)
        self.set_debug(False)  # it would warn of callbacks that are slow by this clock

    def time(self) -> float:
        return self._virtual.now

    def end(self) -> None:
        """Cancel all tasks and close the loop."""
        tasks = asyncio.all_tasks(self)
        for task in tasks:
            task.cancel()

        async def cancelled() -> None:
            await asyncio.gather(*tasks, return_exceptions=True)

        self.run_until_complete(cancelled())
        self.close()
