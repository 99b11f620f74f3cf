"""TCP ports for servers that the testbed and the tests start."""

from __future__ import annotations

import random
import socket

# Below the ports that the kernel gives to connections, of which busy tests have thousands, and
# below NodePorts, which kube-proxy takes wherever a node runs.
_FIRST, _LAST = 20000, 29999
_CHANCE = random.SystemRandom()


def free_port() -> int:
    """Return a port of the loopback interface that nothing listens on."""
    while True:
        port = _CHANCE.randint(_FIRST, _LAST)
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
