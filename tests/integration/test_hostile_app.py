"""A hostile app for half a minute; `make bench BENCH=hostile` takes an hour."""

from tests.integration.hostile_hour import *  # noqa: F403
