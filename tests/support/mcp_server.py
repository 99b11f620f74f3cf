"""A Model Context Protocol server with one tool, `read_it`, which says whose it is.

`python mcp_server.py NAME LOG`: each call of the tool is a line of LOG.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

TOOL = {
    "name": "read_it",
    "description": "Read something.",
    "inputSchema": {"type": "object", "properties": {"path": {"type": "string"}}},
}


def result(method: str, parameters: dict[str, Any], name: str, log: Path) -> dict[str, Any]:
    """Return the result of a request."""
    if method == "initialize":
        about = {"name": name, "version": "1"}
        version = parameters.get("protocolVersion", "2025-06-18")
        return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": about}
    if method == "tools/list":
        return {"tools": [TOOL]}
    if method == "tools/call":
        with log.open("a") as lines:
            lines.write(json.dumps(parameters["arguments"]) + "\n")
        return {"content": [{"type": "text", "text": f"this is {name}"}]}
    return {}


def main(name: str, log: Path) -> None:
    for line in sys.stdin:
        request = json.loads(line)
        if "id" in request:
            answer = result(request["method"], request.get("params") or {}, name, log)
            print(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": answer}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
