"""`python -m llama_halo` is the `llama-halo` command."""

import sys

from llama_halo.cli import main

sys.exit(main())
