"""bitcoind on a regtest chain of its own."""

import subprocess
from pathlib import Path

from tests.support.ports import free_port
from tests.support.processes import ChildProcess
from tests.support.running import Running

_START_TIMEOUT_S = 60


class Bitcoind(Running):
    """bitcoind without peers and without a wallet.

    Args:
        directory: where to keep the chain; it must not exist yet.

    Attributes:
        lightningd_options: the options with which lightningd reaches it.

    """

    def __init__(self, directory: Path) -> None:
        super().__init__()
        directory.mkdir(parents=True)
        port = free_port()
        self.lightningd_options = [f"--bitcoin-datadir={directory}", f"--bitcoin-rpcport={port}"]
        self._options = [f"-datadir={directory}", "-regtest", f"-rpcport={port}"]
        isolated = ["-listen=0", "-disablewallet", "-dnsseed=0", "-printtoconsole"]
        self._process = ChildProcess(["bitcoind", *self._options, *isolated])

    def _start(self) -> None:
        self._running.callback(self._process.stop)
        self._process.wait_for("Done loading", _START_TIMEOUT_S)

    def mine(self, blocks: int, address: str = "") -> None:
        """Mine blocks; without an address, anyone can spend their rewards."""
        mine = ["generatetoaddress", str(blocks), address]
        if not address:
            mine = ["generatetodescriptor", str(blocks), "raw(51)"]
        subprocess.run(["bitcoin-cli", *self._options, *mine], check=True, capture_output=True)
