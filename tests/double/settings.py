"""The double's own command line."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nwc.cln.versions import parse_version
from tests.double.bolt11 import CURRENCIES
from tests.double.jsonio import Json
from tests.double.options import TRUE

# The version that the double plays by default.
NEWEST = "v26.06.6"


@dataclass(frozen=True)
class Settings:
    """The options of the double.

    Attributes:
        version: the version of lightningd that the double plays.
        plugin_options: options that the double does not know, for its plugins.

    """

    directory: Path
    network: str = "regtest"
    version: str = NEWEST
    plugins: tuple[Path, ...] = ()
    log_file: Path | None = None
    proxy: str | None = None
    always_use_proxy: bool = False
    refuses_deprecated: bool = False
    shutdown_timeout_s: float = 30
    plugin_options: dict[str, list[str | None]] = field(default_factory=dict)

    @property
    def network_directory(self) -> Path:
        """The directory with lightningd's files for this network."""
        return self.directory / self.network

    def is_since(self, version: str) -> bool:
        """Return True if the double plays this version of lightningd or a later one."""
        return parse_version(self.version) >= parse_version(version)

    def proxy_address(self) -> Json:
        """Return the proxy as `init` shows it."""
        host, _, port = (self.proxy or "").rpartition(":")
        host = host.strip("[]") or self.proxy or ""
        kind = "ipv6" if ":" in host else "ipv4" if host.replace(".", "").isdigit() else "dns"
        return {"type": kind, "address": host, "port": int(port or 9050)}


def parse(arguments: Sequence[str]) -> Settings:
    """Return the options of the command line. Any --name and --name=value is accepted."""
    parser = argparse.ArgumentParser(prog="tests.double", allow_abbrev=False)
    parser.add_argument("--lightning-dir", type=Path, required=True)
    parser.add_argument("--network", choices=CURRENCIES, default="regtest")
    parser.add_argument("--plugin", type=Path, action="append", default=[])
    parser.add_argument("--log-file", type=Path)
    parser.add_argument("--proxy")
    parser.add_argument("--always-use-proxy", default="false")
    parser.add_argument("--allow-deprecated-apis", default="true")
    parser.add_argument("--dev-version", default=NEWEST)
    # lightningd gives plugins 30 s to end when it stops.
    parser.add_argument("--dev-shutdown-timeout", type=float, default=30)
    known, others = parser.parse_known_args(arguments)
    options: dict[str, list[str | None]] = {}
    for other in others:
        if not other.startswith("--"):
            parser.error(f"not an option: {other}")
        name, equals, value = other[2:].partition("=")
        options.setdefault(name, []).append(value if equals else None)
    return Settings(
        directory=known.lightning_dir.absolute(),
        network=known.network,
        plugins=tuple(path.resolve() for path in known.plugin),
        log_file=known.log_file and known.log_file.absolute(),
        proxy=known.proxy,
        always_use_proxy=known.always_use_proxy in TRUE,
        refuses_deprecated=known.allow_deprecated_apis not in TRUE,
        version=known.dev_version,
        shutdown_timeout_s=known.dev_shutdown_timeout,
        plugin_options=options,
    )
