"""Describe the machine of a run, by an allowlist of facts, and the other load on it.

Nothing else gets into a result file: no host name, no user name, no folders, and only the number of the kernel's
version, since builders put names into the rest. Facts that the system does not report are None.
"""

import os
import platform
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PROC = Path("/proc")
# Words of a processor's name that do not distinguish it from others.
_CPU_NOISE = re.compile(r"\((r|tm)\)|@.*|\b(intel|amd|cpu|processor|\d+-core|with radeon.*)\b", re.IGNORECASE)


class Noise:
    """Record the other load on the machine from now on.

    Args:
      proc: the proc file system.
    """

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc
        self._load = _load()
        self._ticks = _ticks(proc)

    def measured(self) -> dict[str, float | None]:
        """Return the ``noise`` of a result file.

        It has the one-minute load averages at the start and now, and the share of CPU time since the start that a
        virtual machine's host gave to other guests.
        """
        share = None
        if (before := self._ticks) and (after := _ticks(self._proc)) and after[0] > before[0]:
            share = (after[1] - before[1]) / (after[0] - before[0])
        return {"load_before": self._load, "load_after": _load(), "steal_share": share}


def environment(accelerators: Sequence[Mapping[str, Any]], noise: Noise, proc: Path = PROC) -> dict[str, Any]:
    """Return the ``environment`` of a result file.

    Args:
      accelerators: the result of ``accelerators()`` in the process that owns the devices.
      noise: created when the run began.
      proc: the proc file system.
    """
    cpu = {"model": _cpu_model(proc), "cores": _cores()}
    return {
        "slug": slug(cpu, accelerators),
        "cpu": cpu,
        "ram_bytes": _ram_bytes(),
        "os": _os_name(),
        "kernel": _version_number(platform.release()),
        "virtualisation": "virtual machine" if _has_hypervisor(proc) else None,
        "accelerators": [dict(accelerator) for accelerator in accelerators],
        "noise": noise.measured(),
    }


def accelerators(devices: Sequence[Any] | None = None) -> list[dict[str, Any]]:
    """Return the ``accelerators`` of a result file: kind, count and bytes of memory each; empty on a CPU.

    This claims the devices, so a process that only starts other processes must not call it.

    Args:
      devices: jax devices; by default those of this process.
    """
    if devices is None:
        import jax

        devices = jax.local_devices()
    accelerated = [device for device in devices if device.platform != "cpu"]
    memory = {device.device_kind: _memory_bytes(device) for device in reversed(accelerated)}
    counts = Counter(device.device_kind for device in accelerated)
    return [{"kind": kind, "count": count, "memory_bytes": memory[kind]} for kind, count in counts.items()]


def slug(cpu: Mapping[str, Any], accelerators: Sequence[Mapping[str, Any]]) -> str:
    """Return a short name for this kind of machine, like ``nvidia-h200-1x`` or ``cpu-xeon-platinum-8488c-2x``."""
    if accelerators:
        return "-".join(f"{_dashed(each['kind'])}-{each['count']}x" for each in accelerators)
    model = _dashed(_CPU_NOISE.sub(" ", cpu["model"] or "")) or _dashed(platform.machine()) or "unknown"
    return f"cpu-{model}-{cpu['cores'] or 'n'}x"


def _dashed(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")


def _memory_bytes(device: Any) -> int | None:
    """Return a GPU's total memory if its driver reports it, else the limit of jax's allocator."""
    if device.platform in ("gpu", "cuda") and (memory := _driver_memory(device.device_kind)):
        return memory
    return (device.memory_stats() or {}).get("bytes_limit")


def _driver_memory(kind: str) -> int | None:
    rows = _output("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits").splitlines()
    for row in rows:
        name, _, mebibytes = row.rpartition(",")
        if name.strip() == kind and mebibytes.strip().isdecimal():
            return int(mebibytes) * 2**20
    return None


def _output(*command: str) -> str:
    """Return what a command prints; empty if it is not installed or fails."""
    program = shutil.which(command[0])
    if program is None:
        return ""
    try:
        run = subprocess.run([program, *command[1:]], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return run.stdout.strip()


def _cpu_model(proc: Path) -> str | None:
    return _cpuinfo(proc, "model name") or _output("sysctl", "-n", "machdep.cpu.brand_string") or None


def _has_hypervisor(proc: Path) -> bool:
    return "hypervisor" in (_cpuinfo(proc, "flags") or "").split()


def _cpuinfo(proc: Path, key: str) -> str | None:
    """Return the first processor's value of a key."""
    file = proc / "cpuinfo"
    if not file.exists():
        return None
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip() or None
    return None


def _cores() -> int | None:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _ram_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _os_name() -> str | None:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return f"{platform.system()} {platform.mac_ver()[0]}".strip() or None


def _version_number(text: str) -> str | None:
    match = re.match(r"\d+(\.\d+)*", text)
    return match[0] if match else None


def _load() -> float | None:
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def _ticks(proc: Path) -> tuple[int, int] | None:
    """Return the CPU time of all processors since boot: total, and stolen by the host."""
    file = proc / "stat"
    if not file.exists():
        return None
    # user nice system idle iowait irq softirq steal; the guest fields that follow are already part of user.
    numbers = [int(number) for number in file.read_text(encoding="ascii").splitlines()[0].split()[1:9]]
    return (sum(numbers), numbers[7]) if len(numbers) == 8 else None
