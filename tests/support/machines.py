"""Made-up machines: the files below /sys, /proc and /var/lib that tell what one is."""

from __future__ import annotations

from pathlib import Path

GPU = "sys/bus/pci/devices/0000:c4:00.0"
GOOD = {
    "proc/sys/kernel/osrelease": "6.19.12-1-default",
    "proc/cmdline": "root=/dev/sda2 amd_iommu=off ttm.pages_limit=29097984",
    "proc/meminfo": "MemTotal:       131072000 kB\nMemFree:        1000 kB",
    "sys/class/dmi/id/product_name": "Desktop (AMD Ryzen AI Max 300 Series)",
    "sys/class/dmi/id/bios_date": "08/13/2026",
    "sys/class/kfd/kfd/dev": "508:0",
    f"{GPU}/vendor": "0x1002",
    f"{GPU}/device": "0x1586",
    f"{GPU}/class": "0x038000",
    f"{GPU}/mem_info_gtt_total": str(111 * 2**30),
    f"{GPU}/mem_info_gtt_used": str(30 * 2**30),
    f"{GPU}/mem_info_vram_total": str(512 * 2**20),
    f"{GPU}/mem_info_vram_used": str(100 * 2**20),
    f"{GPU}/fw_version/mes_fw_version": "0x00000080",
    f"{GPU}/drm/renderD128/dev": "226:128",
    f"{GPU}/hwmon/hwmon5/temp1_input": "47000",
    f"{GPU}/hwmon/hwmon5/power1_average": "95000000",
    "dev/dri/renderD128": "",
    "var/lib/dpkg/status": (
        "Package: zlib1g\nVersion: 1:1.3\n\nPackage: firmware-amd-graphics\n"
        "Status: install ok installed\nVersion: 20260110-1\n\nPackage: bash\nVersion: 5.2"
    ),
}


def build(root: Path, **changes: str | None) -> Path:
    """Write a good machine with some files changed, named as in `CHANGED`; None: not there."""
    files = {**GOOD, **{CHANGED[name]: text for name, text in changes.items()}}
    for name, text in files.items():
        if text is not None:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")
    driver = root / "sys/bus/pci/drivers/amdgpu"
    driver.mkdir(parents=True)
    (root / GPU / "driver").symlink_to(driver)
    return root


CHANGED = {
    "kernel": "proc/sys/kernel/osrelease",
    "command_line": "proc/cmdline",
    "memory": "proc/meminfo",
    "packages": "var/lib/dpkg/status",
    "mes": f"{GPU}/fw_version/mes_fw_version",
    "carve_out": f"{GPU}/mem_info_vram_total",
    "gtt": f"{GPU}/mem_info_gtt_total",
    "render_node": f"{GPU}/drm/renderD128/dev",
    "device": f"{GPU}/device",
    "pci_class": f"{GPU}/class",
    "kfd": "sys/class/kfd/kfd/dev",
}
