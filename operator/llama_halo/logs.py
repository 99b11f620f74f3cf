"""JSON logs, one object per line, for every long-running command and the Jobs."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime

_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object: time, level, logger, message, extra fields, error."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class WithoutContent(logging.Filter):
    """Leaves of an error of the HTTP server its type and the lines of code, without its text.

    aiohttp logs the offending line of a malformed request, which may be a key or a prompt.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        record.msg, record.args = "request failed in the HTTP server", ()
        record.exc_info = record.exc_text = None
        record.reason = type(error).__name__ if error else ""
        record.frames = "".join(traceback.format_tb(error.__traceback__)) if error else ""
        return True


def configure_logging(level: str) -> None:
    """Log to standard output as JSON; `level` is ours, libraries log warnings and above."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("llama_halo").setLevel(level)
    logging.getLogger("aiohttp.server").addFilter(WithoutContent())
