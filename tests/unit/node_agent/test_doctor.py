"""What the doctor finds on machines that are made up of files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_halo import cli
from llama_halo.node_agent.agent import MANAGER, node_patches
from llama_halo.node_agent.findings import (
    ADVISED_RESERVE_MIB,
    PAGES_PER_GIB,
    PROBLEM,
    RESERVE_MIB,
    findings,
    gpu_budget_mib,
)
from llama_halo.node_agent.machine import Machine, read_machine, read_now
from tests.support.machines import build

Json = dict[str, Any]

BOXES: dict[str, tuple[dict[str, str | None], list[tuple[str, str, str]]]] = {
    "a good one": ({}, []),
    "a good one that calls itself VGA": ({"pci_class": "0x030000"}, []),
    "Linux 6.14": (
        {"kernel": "6.14.0-37-generic"},
        [("kernel", "6.14.0-37-generic", "install Linux 6.18.4 or newer")],
    ),
    "Linux 6.14 with its workaround": (
        {"kernel": "6.14.0", "command_line": "amd_iommu=off amdgpu.cwsr_enable=0"},
        [("kernel", "keeps it from that", "install Linux 6.18.4")],
    ),
    "Linux 7.1": ({"kernel": "7.1.3"}, []),
    "an IOMMU that is off by another word": ({"command_line": "iommu=off"}, []),
    "firmware of 20251125": (
        {
            "mes": "0x00000083",
            "packages": "Package: linux-firmware\nVersion: 20251125.git1-0ubuntu1",
        },
        [("firmware", "20251125", "install linux-firmware 20260110 or newer")],
    ),
    "firmware of 20251125 whose version the driver does not tell": (
        {"mes": None, "packages": "Package: linux-firmware\nVersion: 20251125.git1-0ubuntu1"},
        [("firmware", "20251125", "rebuild the initramfs")],
    ),
    "the package of 20251125, and a newer firmware that runs": (
        {"packages": "Package: linux-firmware\nVersion: 20251125.git1-0ubuntu1"},
        [],
    ),
    "a carve-out of 64 GB": (
        {
            "carve_out": str(64 * 2**30),
            "memory": "MemTotal:       64800000 kB",
            "gtt": str(31 * 2**30),
        },
        [("carve-out", "64.0 GiB", "UMA frame buffer")],
    ),
    "no render node": ({"render_node": None}, [("render-node", "/dev/dri", "nomodeset")]),
    "no Strix Halo": ({"device": "0x744c"}, [("gpu", "1002:1586", "backend CPU")]),
    "half of the memory for the GPU, as Linux has it": (
        {"gtt": str(62 * 2**30), "command_line": "root=/dev/sda2 amd_iommu=off"},
        [("pages-limit", "62.0 GiB of 125.0 GiB", "ttm.pages_limit=28573696")],
    ),
    "nearly all of the memory for the GPU": (
        {"gtt": str(124 * 2**30)},
        [("pages-limit", "124.0 GiB", "ttm.pages_limit=28573696")],
    ),
    "an IOMMU": ({"command_line": "iommu=pt"}, [("iommu", "on", "amd_iommu=off")]),
    "the old parameter": (
        {"command_line": "amd_iommu=off amdgpu.gttsize=113664"},
        [("gttsize", "deprecated", "ttm.pages_limit")],
    ),
    "no ROCm in the kernel": ({"kfd": None}, [("kfd", "/dev/kfd", "Vulkan")]),
}


@pytest.mark.parametrize(("changes", "expected"), BOXES.values(), ids=BOXES)
def test_a_box_has_exactly_what_is_wrong_with_it(
    tmp_path: Path, changes: dict[str, str | None], expected: list[tuple[str, str, str]]
) -> None:
    value = findings(read_machine(build(tmp_path, **changes)))
    assert [item.check for item in value] == [check for check, _, _ in expected]
    for item, (_, observed, remedy) in zip(value, expected, strict=True):
        assert observed in item.symptom
        assert remedy in item.remedy


def test_a_machine_is_read_whole(tmp_path: Path) -> None:
    root = build(tmp_path)
    machine = read_machine(root)
    assert machine == Machine(
        kernel="6.19.12-1-default",
        command_line="amd_iommu=off ttm.pages_limit=29097984",
        memory_mib=128_000,
        strix_halo=True,
        driver="amdgpu",
        gtt_mib=111 * 1024,
        vram_mib=512,
        render_node="/dev/dri/renderD128",
        render_group=(root / "dev/dri/renderD128").stat().st_gid,
        kfd=True,
        firmware_date="20260110",
        mes_firmware=0x80,
        board="Desktop (AMD Ryzen AI Max 300 Series)",
        bios_date="08/13/2026",
    )
    now = read_now(root)
    assert (now.gtt_used_mib, now.vram_used_mib) == (30 * 1024, 100)
    assert (now.temperature_celsius, now.power_watts) == (47.0, 95.0)


def test_a_machine_without_anything_is_no_strix_halo(tmp_path: Path) -> None:
    machine = read_machine(tmp_path)
    assert not machine.strix_halo
    assert [finding.check for finding in findings(machine)] == ["gpu"]
    assert read_now(tmp_path).gtt_used_mib is None
    description, label, budget = node_patches("halo-1", machine).values()
    assert "llama-halo.dev/machine" in description["metadata"]["annotations"]
    assert (label["metadata"]["labels"], budget["metadata"]["annotations"]) == ({}, {})


def test_the_node_is_told_its_label_and_its_budget(tmp_path: Path) -> None:
    machine = read_machine(build(tmp_path))
    description, label, budget = node_patches("halo-1", machine).values()
    assert label["metadata"]["labels"] == {"llama-halo.dev/strix-halo": "true"}
    assert budget["metadata"]["annotations"] == {"llama-halo.dev/gpu-memory": f"{111 * 1024}Mi"}
    message = json.loads(description["metadata"]["annotations"]["llama-halo.dev/machine"])
    assert message["gtt_mib"] == 111 * 1024
    assert len({MANAGER, *node_patches("halo-1", machine)}) == 3, "each with a manager of its own"


def test_a_gpu_that_does_not_work_has_no_budget(tmp_path: Path) -> None:
    """Nor does the node fall back to what is assumed where nobody has looked."""
    machine = read_machine(build(tmp_path, gtt=None))
    _, label, budget = node_patches("halo-1", machine).values()
    assert label["metadata"]["labels"]
    assert budget["metadata"]["annotations"] == {"llama-halo.dev/gpu-memory": "0Mi"}


def test_of_the_kernels_command_line_nothing_else_is_told(tmp_path: Path) -> None:
    secret = "talos.config=https://me:secret@host/c amd_iommu=off amdgpu.vm_fragment_size=8"
    machine = read_machine(build(tmp_path, command_line=secret))
    assert machine.command_line == "amd_iommu=off amdgpu.vm_fragment_size=8"


@given(
    memory_mib=st.integers(ADVISED_RESERVE_MIB + 4096, 512 * 1024),
    gtt_mib=st.none() | st.integers(0, 600 * 1024),
)
def test_the_budget_leaves_linux_its_reserve_and_the_advice_ends_the_problem(
    memory_mib: int, gtt_mib: int | None
) -> None:
    machine = Machine(
        kernel="7.0",
        command_line="amd_iommu=off",
        memory_mib=memory_mib,
        strix_halo=True,
        driver="amdgpu",
        render_node="/dev/dri/renderD128",
        kfd=True,
        gtt_mib=gtt_mib,
    )
    assert gpu_budget_mib(machine) <= memory_mib - RESERVE_MIB
    for finding in findings(machine):
        message = re.search(r"ttm\.pages_limit=(\d+)", finding.remedy)
        assert message
        mended = Machine(**{**vars(machine), "gtt_mib": int(message[1]) * 1024 // PAGES_PER_GIB})
        assert findings(mended) == ()


def test_the_doctor_prints_and_says_by_its_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, old = build(tmp_path / "good"), build(tmp_path / "old", kernel="6.14.0")
    assert cli.main(["doctor", "--root", str(good)]) == 0
    assert "ok: no problem; models may take 111.0 GiB" in capsys.readouterr().out
    assert cli.main(["doctor", "--root", str(old), "-o", "json"]) == 1
    (report,) = json.loads(capsys.readouterr().out).values()
    assert [finding["level"] for finding in report["findings"]] == [PROBLEM]
    assert cli.main(["doctor", "--root", str(old)]) == 1
    assert "problem: kernel: Linux 6.14.0" in capsys.readouterr().out
