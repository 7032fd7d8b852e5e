"""How many CPU cores this process may use: fewer than the machine has, in a container."""

import contextlib
import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")


def usable_cores(cgroups: Path = _CGROUPS, own_cgroup: Path = _OWN_CGROUP) -> int:
    """Cores of the process's affinity (taskset, cpusets), or whole ones of its quota (docker
    --cpus, limits of Kubernetes) where those are fewer; at least 1.

    Threads beyond the quota would use it up early in each tenth of a second, and all would stand
    still for the rest.

    Args:
        cgroups: where control groups are mounted, version 2.
        own_cgroup: the file that names the process's own.
    """
    # Not on every system is there an affinity.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min([cores or 1, *_quotas(cgroups, own_cgroup)]))


def _quotas(cgroups: Path, own_cgroup: Path) -> list[int]:
    """Whole cores that the own control group allows, and each above it that has a quota."""
    try:
        lines = own_cgroup.read_text().splitlines()
    except OSError:
        return []
    quotas = []
    for path in [line.removeprefix("0::/") for line in lines if line.startswith("0::/")]:
        group = cgroups / path
        for folder in (group, *group.parents):
            with contextlib.suppress(OSError, ValueError):  # none, or "max"
                quota, period = (folder / "cpu.max").read_text().split()
                quotas.append(int(quota) // int(period))
    return quotas
