"""The problems of a machine, and how to fix them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from llama_halo.node_agent.machine import Machine

OLDEST_KERNEL = (6, 18, 4)
"""Older kernels have wrong register counts for gfx1151: ROCm crashes at random (TheRock 2991)."""
LAST_GOOD_FIRMWARE, NEXT_GOOD_FIRMWARE = "20251111", "20260110"
"""Releases between them have MES firmware 0x83, which causes memory access faults and hangs."""
BAD_MES = 0x83
MES_MASK = 0xFFF
MAX_CARVE_OUT_MIB = 4096
RESERVE_MIB = 12 * 1024
"""Memory that the GPU must leave to Linux: with less, the machine can freeze."""
ADVISED_RESERVE_MIB = 16 * 1024
"""The advised reserve, for a node of a cluster, which runs other workloads, too."""
MIN_GTT_SHARE = 0.8
"""Share of the advised size below which GTT is too small."""
PAGES_PER_GIB = 262_144
PROBLEM, ADVICE = "problem", "advice"


@dataclass(frozen=True)
class Finding:
    """One problem of a machine, or one piece of advice."""

    check: str
    level: str
    """`problem`: models fail or the machine can freeze; `advice`: it would be faster."""
    symptom: str
    remedy: str


def gpu_budget_mib(machine: Machine) -> int:
    """Return the GPU memory for models: the driver's limit, at most the memory less a reserve."""
    return max(min(machine.gtt_mib or 0, machine.memory_mib - RESERVE_MIB), 0)


def findings(machine: Machine) -> tuple[Finding, ...]:
    """Return the findings for a machine, problems first."""
    if not machine.strix_halo:
        symptom = "no GPU with PCI id 1002:1586 (class 0380 or 0300)"
        remedy = "this is no Strix Halo machine: run models with backend CPU here, or elsewhere"
        return (Finding("gpu", PROBLEM, symptom, remedy),)
    all_findings = [*_devices(machine), *_kernel(machine), *_firmware(machine), *_memory(machine)]
    all_findings += _command_line(machine)
    return tuple(sorted(all_findings, key=lambda finding: finding.level != PROBLEM))


def _devices(machine: Machine) -> Iterator[Finding]:
    if machine.driver != "amdgpu":
        symptom = f"the GPU's driver is {machine.driver or 'missing'}"
        remedy = "load amdgpu (modprobe amdgpu; look for it in a blacklist below /etc/modprobe.d)"
        yield Finding("driver", PROBLEM, symptom, remedy)
    elif not machine.render_node:
        symptom = "there is no /dev/dri/renderD*"
        remedy = (
            "boot without nomodeset, and install the GPU's firmware (linux-firmware or"
            " firmware-amd-graphics); dmesg | grep amdgpu says what it misses"
        )
        yield Finding("render-node", PROBLEM, symptom, remedy)
    elif not machine.kfd:
        symptom = "there is no /dev/kfd: ROCm cannot use the GPU (Vulkan can)"
        remedy = "use a kernel with CONFIG_HSA_AMD, or backend Vulkan"
        yield Finding("kfd", ADVICE, symptom, remedy)


def _kernel(machine: Machine) -> Iterator[Finding]:
    numbers = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", machine.kernel)
    version = tuple(int(group or 0) for group in numbers.groups()) if numbers else None
    if version is not None and version < OLDEST_KERNEL:
        oldest = ".".join(map(str, OLDEST_KERNEL))
        remedy = f"install Linux {oldest} or newer; until then boot with amdgpu.cwsr_enable=0"
        symptom = f"Linux {machine.kernel}: ROCm crashes at random before {oldest}"
        if "amdgpu.cwsr_enable=0" in machine.command_line.split():
            symptom += "; amdgpu.cwsr_enable=0 keeps it from that"
            yield Finding("kernel", ADVICE, symptom, f"install Linux {oldest} or newer")
            return
        yield Finding("kernel", PROBLEM, symptom, remedy)


def _firmware(machine: Machine) -> Iterator[Finding]:
    date, mes = machine.firmware_date, machine.mes_firmware
    dated = bool(date) and LAST_GOOD_FIRMWARE < date < NEXT_GOOD_FIRMWARE
    if mes is not None and mes & MES_MASK == BAD_MES:
        symptom = "the GPU runs MES firmware 0x83" + (f" (linux-firmware {date})" if date else "")
    elif mes is None and dated:
        symptom = f"linux-firmware {date} has MES firmware 0x83"
    else:
        return
    remedy = (
        f"install linux-firmware {NEXT_GOOD_FIRMWARE} or newer (or {LAST_GOOD_FIRMWARE}), rebuild"
        " the initramfs and reboot: this one ends in memory access faults and hangs under ROCm"
    )
    yield Finding("firmware", PROBLEM, symptom, remedy)


def _memory(machine: Machine) -> Iterator[Finding]:
    carve_out, gtt, memory = machine.vram_mib or 0, machine.gtt_mib, machine.memory_mib
    if carve_out > MAX_CARVE_OUT_MIB:
        symptom = f"firmware keeps {_gib(carve_out)} for the GPU; Linux has {_gib(memory)} left"
        remedy = (
            "set the UMA frame buffer to its minimum (512 MB) in the firmware's set-up: the GPU"
            " then takes what it needs of all memory, and nothing is lost to either"
        )
        yield Finding("carve-out", PROBLEM, symptom, remedy)
        return
    if gtt is None:
        return
    best = memory - ADVISED_RESERVE_MIB
    pages = best // 1024 * PAGES_PER_GIB
    rest = _gib(ADVISED_RESERVE_MIB)
    remedy = f"boot with ttm.pages_limit={pages} ({best // 1024} GiB, {rest} for Linux)"
    if gtt > memory - RESERVE_MIB:
        symptom = f"the GPU may take {_gib(gtt)} of {_gib(memory)}: the machine can freeze"
        yield Finding("pages-limit", PROBLEM, symptom, remedy)
    elif gtt < best * MIN_GTT_SHARE:
        symptom = f"the GPU may take only {_gib(gtt)} of {_gib(memory)}"
        yield Finding("pages-limit", PROBLEM, symptom, remedy)


def _command_line(machine: Machine) -> Iterator[Finding]:
    arguments = machine.command_line.split()
    if not {"amd_iommu=off", "iommu=off"} & set(arguments):
        symptom = "the IOMMU is on"
        remedy = "boot with amd_iommu=off: prompts are read 5 to 12 % faster than with iommu=pt"
        yield Finding("iommu", ADVICE, symptom, remedy)
    if any(word.startswith("amdgpu.gttsize=") for word in arguments) and not any(
        re.match(r"(amd)?ttm\.pages_limit=", word) for word in arguments
    ):
        symptom = "amdgpu.gttsize on the kernel's command line is deprecated"
        yield Finding("gttsize", ADVICE, symptom, "use ttm.pages_limit alone")


def _gib(mib: int) -> str:
    return f"{mib / 1024:.1f} GiB"
