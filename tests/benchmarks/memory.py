"""What a process and its Ray session use, read from Linux's /proc."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_MEBIBYTE_KB = 1024


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process has used so far: CPU seconds, and its largest resident set in MB."""

    cpu_seconds: float
    peak_mb: float


def usage(pid: int | str = "self") -> Usage | None:
    """Read a process's usage; None where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    ticks = int(fields[11]) + int(fields[12])
    peak = next((line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")), "0")
    return Usage(ticks / os.sysconf("SC_CLK_TCK"), int(peak) / _MEBIBYTE_KB)


def forget_peak() -> None:
    """Let this process's largest resident set begin anew at what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


def ray_processes() -> dict[int, tuple[str, Usage]]:
    """The processes of the Ray that this process has started: `worker` or `service`, by process id."""
    import ray

    node = ray._private.worker._global_node
    if node is None:
        return {}
    session = Path(node.get_session_dir_path()).name
    parents, titles = _all_processes()
    services = {pid for pid, title in titles.items() if session in title} - {os.getpid()}
    found = {}
    for pid, title in titles.items():
        if pid in services or parents.get(pid) in services:
            used = usage(pid)
            if used is not None:
                scores = title.startswith("ray::") and "Agent" not in title
                found[pid] = ("worker" if scores else "service", used)
    return found


def _all_processes() -> tuple[dict[int, int], dict[int, str]]:
    parents: dict[int, int] = {}
    titles: dict[int, str] = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            stat = (folder / "stat").read_text()
            titles[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, UnicodeDecodeError):
            continue
        parents[int(folder.name)] = int(stat.rpartition(")")[2].split()[1])
    return parents, titles
