"""nwc-status."""

from typing import Any

import nwc
from nwc.commands import shown
from nwc.service import Core

Json = dict[str, Any]


async def status(core: Core) -> Json:
    """Show how the service is doing."""
    starting = {} if core.payments.is_started else {"warning": shown.STILL_STARTING}
    return {
        "version": nwc.__version__,
        "started_at": core.started_at,
        **starting,
        "relays": [shown.describe_relay(relay) for relay in core.pool.info()],
        "connections": [
            {
                "name": live.record.name,
                **shown.describe_use(live),
                **shown.joined(shown.clock_warnings(live)),
            }
            for live in core.connections.all()
        ],
        "requests_answered": shown.by_method(core.server.answered),
        "events_rejected": dict(core.server.rejected),
    }
