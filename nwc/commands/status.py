"""nwc-status: versions, relays, the use of each connection."""

import platform
from typing import Any

import nwc
from nwc import origin
from nwc.cln import versions
from nwc.commands import shown
from nwc.service import App

Json = dict[str, Any]


async def status(app: App) -> Json:
    """Return the state of the plugin."""
    warnings = [] if app.payments.is_started else [shown.STILL_STARTING]
    if known_fault := versions.warning_of(versions.running_version()):
        warnings.append(known_fault)
    return {
        "version": nwc.__version__,
        "installation": origin.find_origin().kind,
        "python_version": platform.python_version(),
        "lightningd_version": versions.running_version(),
        "started_at": app.started_at,
        **shown.joined(warnings),
        "hold_invoices": app.hold_invoices.summary(),
        "relays": [shown.describe_relay(relay) for relay in app.pool.info()],
        "connections": [
            {
                "name": live.record.name,
                **shown.describe_use(live),
                **shown.joined(shown.clock_warnings(live)),
            }
            for live in app.connections.all()
        ],
        "requests_answered": shown.by_method(app.server.answered),
        "events_ignored": dict(app.server.ignored),
    }
