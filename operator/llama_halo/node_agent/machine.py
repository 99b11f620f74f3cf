"""Reads what a machine is from sysfs and procfs, below any root: a node's own, or one made up."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

AMD = "0x1002"
STRIX_HALO = "0x1586"
"""One device for all of Radeon 8040S, 8050S and 8060S (facts: PCI database)."""
DISPLAY_CLASSES = ("0x0380", "0x0300")
"""Display controller, as most of these boards say, and VGA."""
_TOLD_WORDS = ("amd_iommu=", "iommu=", "ttm.", "amdttm.", "amdgpu.", "nomodeset")
_FIRMWARE_PACKAGES = ("firmware-amd-graphics", "linux-firmware", "linux-firmware-amdgpu")


@dataclass(frozen=True)
class Machine:
    """One machine as it was when it was looked at. Numbers that it does not tell are None."""

    kernel: str
    command_line: str
    """Of the kernel's, the words about the GPU and its memory: others may be secrets."""
    memory_mib: int
    """What Linux has: what firmware keeps for the GPU (a carve-out) is not in it."""
    strix_halo: bool
    driver: str = ""
    gtt_mib: int | None = None
    """What the GPU may take of ordinary memory; fixed at boot."""
    vram_mib: int | None = None
    """The carve-out."""
    render_node: str = ""
    render_group: int | None = None
    kfd: bool = False
    firmware_date: str = ""
    """Of linux-firmware, YYYYMMDD, where a package manager's files tell."""
    mes_firmware: int | None = None
    """Version of the GPU's scheduler firmware."""
    board: str = ""
    bios_date: str = ""


@dataclass(frozen=True)
class Readings:
    """What changes all the time."""

    gtt_used_mib: int | None = None
    vram_used_mib: int | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None


def read_machine(root: Path) -> Machine:
    """Return what the machine with this root is."""
    gpu = _gpu(root)
    render = next((path.name for path in gpu.glob("drm/renderD*")), "") if gpu else ""
    version = _text(gpu / "fw_version/mes_fw_version") if gpu else ""
    return Machine(
        kernel=_text(root / "proc/sys/kernel/osrelease"),
        command_line=_relevant_arguments(_text(root / "proc/cmdline")),
        memory_mib=_memory_mib(_text(root / "proc/meminfo")),
        strix_halo=gpu is not None,
        driver=(gpu / "driver").resolve().name if gpu and (gpu / "driver").exists() else "",
        gtt_mib=_mib(gpu, "mem_info_gtt_total"),
        vram_mib=_mib(gpu, "mem_info_vram_total"),
        render_node=f"/dev/dri/{render}" if render else "",
        render_group=_group(root / "dev/dri" / render) if render else None,
        kfd=(root / "sys/class/kfd/kfd").exists(),
        firmware_date=_firmware_date(root),
        mes_firmware=int(version, 0) if re.fullmatch(r"0x[0-9a-fA-F]+", version) else None,
        board=_text(root / "sys/class/dmi/id/product_name"),
        bios_date=_text(root / "sys/class/dmi/id/bios_date"),
    )


def read_now(root: Path) -> Readings:
    """Return the GPU's readings; nothing of a machine without one."""
    gpu = _gpu(root)
    if gpu is None:
        return Readings()
    sensors = next(gpu.glob("hwmon/hwmon*"), gpu)
    power = _number(sensors / "power1_average") or _number(sensors / "power1_input")
    degrees = _number(sensors / "temp1_input")
    return Readings(
        gtt_used_mib=_mib(gpu, "mem_info_gtt_used"),
        vram_used_mib=_mib(gpu, "mem_info_vram_used"),
        temperature_celsius=None if degrees is None else degrees / 1000,
        power_watts=None if power is None else power / 1e6,
    )


def _gpu(root: Path) -> Path | None:
    """Return the folder of the Strix Halo GPU among the PCI devices."""
    for device in sorted((root / "sys/bus/pci/devices").glob("*")):
        if (
            _text(device / "vendor") == AMD
            and _text(device / "device") == STRIX_HALO
            and _text(device / "class")[:6] in DISPLAY_CLASSES
        ):
            return device
    return None


def _firmware_date(root: Path) -> str:
    """Return the date in the version of the firmware's package (Debian's and Arch's files)."""
    installed = _text(root / "var/lib/dpkg/status")
    for block in installed.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Version): (.*)$", block, re.MULTILINE))
        if fields.get("Package") in _FIRMWARE_PACKAGES:
            return _date(fields.get("Version", ""))
    for name in _FIRMWARE_PACKAGES:
        for folder in (root / "var/lib/pacman/local").glob(f"{name}-2*"):
            return _date(folder.name)
    return ""


def _date(version: str) -> str:
    match = re.search(r"20\d{6}", version)
    return match[0] if match else ""


def _relevant_arguments(command_line: str) -> str:
    return " ".join(word for word in command_line.split() if word.startswith(_TOLD_WORDS))


def _memory_mib(meminfo: str) -> int:
    match = re.search(r"^MemTotal:\s+(\d+) kB", meminfo, re.MULTILINE)
    return int(match[1]) // 1024 if match else 0


def _mib(gpu: Path | None, name: str) -> int | None:
    size_bytes = _number(gpu / name) if gpu else None
    return None if size_bytes is None else size_bytes // 2**20


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdecimal() else None


def _group(path: Path) -> int | None:
    with suppress(OSError):
        return path.stat().st_gid
    return None


def _text(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(errors="replace").strip()
    return ""
