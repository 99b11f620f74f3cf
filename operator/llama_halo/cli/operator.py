"""`llama-halo operator`: run the operator until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import os

from llama_halo.logs import configure_logging
from llama_halo.settings import load_settings
from llama_halo.wiring import run_operator


def run(argv: list[str]) -> int:
    """Run the operator with settings from the environment."""
    argparse.ArgumentParser(
        prog="llama-halo operator",
        description="Settings are environment variables: docs/spec/settings.md.",
    ).parse_args(argv)
    settings = load_settings(os.environ)
    configure_logging(settings.log_level)
    asyncio.run(run_operator(settings))
    return 0
