"""`make coverage`: how much of each package the tests run, as a Markdown table."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path("operator/llama_halo")


def main() -> None:
    """Print statements, and per cent of them that ran, by package."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = (sys.executable, "-m", "coverage", "json", "--quiet", "-o", file.name)
        subprocess.run(command, check=True)
        files = json.loads(Path(file.name).read_text())["files"]
    statements, covered = Counter[str](), Counter[str]()
    for name, entry in files.items():
        folder = Path(name).relative_to(ROOT).parts
        package = f"{folder[0]}/" if len(folder) > 1 else "modules beside the packages"
        for key in (package, "all"):
            statements[key] += entry["summary"]["num_statements"]
            covered[key] += entry["summary"]["covered_lines"]
    print("| package | statements | covered |\n|---|---|---|")
    for package in (*sorted(statements.keys() - {"all"}), "all"):
        share = covered[package] / max(statements[package], 1)
        print(f"| {package} | {statements[package]:,} | {share:.0%} |")


if __name__ == "__main__":
    main()
