"""Reads a machine's data from sysfs and procfs, below a root folder: the node's, or a test's."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

AMD = "0x1002"
STRIX_HALO = "0x1586"
"""The device id of Radeon 8040S, 8050S and 8060S (source: the PCI ID database)."""
DISPLAY_CLASSES = ("0x0380", "0x0300")
"""PCI classes: display controller, which most of these boards report, and VGA."""
_PUBLISHED_ARGUMENTS = ("amd_iommu=", "iommu=", "ttm.", "amdttm.", "amdgpu.", "nomodeset")
_FIRMWARE_PACKAGES = ("firmware-amd-graphics", "linux-firmware", "linux-firmware-amdgpu")


@dataclass(frozen=True)
class Machine:
    """One machine at the time of reading. Numbers that it does not report are None."""

    kernel: str
    command_line: str
    """Kernel arguments for the GPU and its memory only: others may be secrets."""
    memory_mib: int
    """Memory of Linux, without the carve-out that firmware reserves for the GPU."""
    strix_halo: bool
    driver: str = ""
    gtt_mib: int | None = None
    """Ordinary memory that the GPU may use; fixed at boot."""
    vram_mib: int | None = None
    """The carve-out."""
    render_node: str = ""
    render_group: int | None = None
    kfd: bool = False
    firmware_date: str = ""
    """Date of linux-firmware, YYYYMMDD; empty if no package manager's files have it."""
    mes_firmware: int | None = None
    """Version of the GPU's scheduler firmware."""
    board: str = ""
    bios_date: str = ""


@dataclass(frozen=True)
class Readings:
    """The GPU's current readings."""

    gtt_used_mib: int | None = None
    vram_used_mib: int | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None


def read_machine(root: Path) -> Machine:
    """Read the machine below this root folder."""
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
    """Return the GPU's readings, all None on a machine without one."""
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
    """Return the sysfs folder of the Strix Halo GPU, None if there is none."""
    for device in sorted((root / "sys/bus/pci/devices").glob("*")):
        if (
            _text(device / "vendor") == AMD
            and _text(device / "device") == STRIX_HALO
            and _text(device / "class")[:6] in DISPLAY_CLASSES
        ):
            return device
    return None


def _firmware_date(root: Path) -> str:
    """Return the date in the firmware package's version, from dpkg's or pacman's files."""
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
    return " ".join(word for word in command_line.split() if word.startswith(_PUBLISHED_ARGUMENTS))


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
