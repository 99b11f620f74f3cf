"""`llama-halo doctor`: find problems of a Strix Halo machine, and tell how to fix them."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from dataclasses import asdict, fields
from pathlib import Path

from llama_halo.contract.labels import MACHINE as MACHINE_ANNOTATION
from llama_halo.errors import CliError
from llama_halo.kube.resources import NODE
from llama_halo.node_agent.findings import PROBLEM, findings, gpu_budget_mib
from llama_halo.node_agent.machine import Machine, read_machine


def run(argv: list[str]) -> int:
    """Check this machine or nodes of a cluster; return 1 if there is a problem."""
    arguments = _parser().parse_args(argv)
    if arguments.nodes is None:
        name = os.environ.get("NODE_NAME") or os.uname().nodename
        machines = {name: read_machine(arguments.root)}
    else:
        machines = asyncio.run(_of_the_cluster(set(arguments.nodes)))
    if arguments.output == "json":
        print(json.dumps({name: _report(machine) for name, machine in machines.items()}, indent=2))
    else:
        print("\n\n".join(_findings_text(name, machine) for name, machine in machines.items()))
    # A cluster may have other nodes: without names, only Strix Halo machines count.
    has_node_names = arguments.nodes != []
    checked_machines = [
        machine for machine in machines.values() if has_node_names or machine.strix_halo
    ]
    all_findings = (finding for machine in checked_machines for finding in findings(machine))
    return 1 if any(finding.level == PROBLEM for finding in all_findings) else 0


def _report(machine: Machine) -> dict[str, object]:
    rows = [asdict(finding) for finding in findings(machine)]
    return {"machine": asdict(machine), "findings": rows}


def _findings_text(name: str, machine: Machine) -> str:
    lines = [f"{name}: {_summary(machine)}"]
    problems = findings(machine)
    if not problems:
        lines.append(f"  ok: no problem; models may take {_gib(gpu_budget_mib(machine))}")
    for problem in problems:
        lines += [f"  {problem.level}: {problem.check}: {problem.symptom}", f"    {problem.remedy}"]
    return "\n".join(lines)


def _summary(machine: Machine) -> str:
    """Return one line with the values that the machine reports."""
    parts = [
        machine.board,
        f"Linux {machine.kernel}" if machine.kernel else "",
        f"{_gib(machine.memory_mib)} of memory",
        f"GTT {_gib(machine.gtt_mib)}" if machine.gtt_mib is not None else "",
        f"carve-out {_gib(machine.vram_mib)}" if machine.vram_mib is not None else "",
        f"linux-firmware {machine.firmware_date}" if machine.firmware_date else "",
        f"MES {machine.mes_firmware:#x}" if machine.mes_firmware is not None else "",
        f"render group {machine.render_group}" if machine.render_group is not None else "",
    ]
    return ", ".join(part for part in parts if part)


def _gib(mib: int) -> str:
    return f"{mib / 1024:.1f} GiB"


async def _of_the_cluster(names: set[str]) -> dict[str, Machine]:
    """Return the machines that node agents published, of all nodes or of the named ones."""
    from llama_halo.kube.client import KubeClient  # noqa: PLC0415  (the import takes a second)

    cluster = await KubeClient.connect()
    try:
        nodes, _ = await cluster.list(NODE, namespace=None)
    finally:
        await cluster.close()
    texts_by_node = {
        item["metadata"]["name"]: (item["metadata"].get("annotations") or {}).get(
            MACHINE_ANNOTATION
        )
        for item in nodes
    }
    if missing := sorted(names - texts_by_node.keys()):
        raise CliError(f"no such node: {', '.join(missing)}: kubectl get nodes lists them")
    machines = {
        name: _machine(text)
        for name, text in sorted(texts_by_node.items())
        if text and name in (names or texts_by_node)
    }
    if not machines or names - machines.keys():
        silent = ", ".join(sorted(names - machines.keys() or texts_by_node.keys()))
        raise CliError(
            f"no node agent has reported on {silent}: install the chart with nodeAgent.enabled, or"
            " run `llama-halo doctor` on the node itself"
        )
    return machines


def _machine(text: str) -> Machine:
    """Read an annotation; fields that only another version knows are ignored."""
    field_names = {field.name for field in fields(Machine)}
    try:
        return Machine(
            **{name: value for name, value in json.loads(text).items() if name in field_names}
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise CliError(f"annotation {MACHINE_ANNOTATION} cannot be read: {error}") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="llama-halo doctor", description=__doc__)
    parser.add_argument(
        "--nodes",
        nargs="*",
        metavar="NODE",
        help="nodes of the cluster (KUBECONFIG), as their node agents saw them; without names: all",
    )
    parser.add_argument("--root", type=Path, default=Path("/"), help="where sys, proc and dev are")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    return parser
