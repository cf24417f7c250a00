"""How much memory is free: of a device, of the machine, and of what this process is allowed."""

from pathlib import Path
from typing import Any


def available_bytes(device: Any) -> int | None:
    """What is free: of the device's own memory, or on CPU of the machine's and of what this process is allowed."""
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    if device.platform != "cpu":
        return None
    return free_on_host()


def free_on_host() -> int | None:
    """Bytes that this process may still take of the machine's memory, None where nobody can say."""
    known = [free for free in (_free_in_machine(), *_free_in_control_groups(), *_free_in_process()) if free is not None]
    return min(known, default=None)


def _free_in_machine() -> int | None:
    path = Path("/proc/meminfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None


def _free_in_control_groups(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> list[int]:
    """What the limits of this process's control groups, of either version, leave."""
    free = []
    for line in own.read_text(encoding="utf-8").splitlines() if own.exists() else []:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, name, used = root, "memory.max", ("anon", "shmem")
        elif "memory" in controllers.split(","):
            top, name, used = root / "memory", "memory.limit_in_bytes", ("total_rss", "total_shmem")
        else:
            continue
        # Inside a container the group's folder may be the root itself, whatever its path is called outside.
        group = top / path.strip("/")
        for folder in {top, *(parent for parent in (group, *group.parents) if parent.is_relative_to(top))}:
            limit, statistics = _read(folder / name), _read(folder / "memory.stat")
            if limit.isdigit():  # "max" is no limit
                # Not what the group uses in all: that counts files which the kernel drops when memory is needed.
                counts = dict(line.split() for line in statistics.splitlines())
                free.append(int(limit) - sum(int(counts.get(kind, 0)) for kind in used))
    return free


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


def _free_in_process(own: Path = Path("/proc/self/status")) -> list[int]:
    """What the limits of this process (``ulimit -d``, ``ulimit -v``) leave."""
    try:
        import resource
    except ImportError:  # Windows has none
        return []
    lines = _read(own).splitlines()
    used = {line.partition(":")[0]: line.split()[1] for line in lines if line.startswith(("VmData:", "VmSize:"))}
    limits = {"VmData": resource.RLIMIT_DATA, "VmSize": resource.RLIMIT_AS}
    given = {name: resource.getrlimit(limit)[0] for name, limit in limits.items()}
    return [given[name] - 1024 * int(count) for name, count in used.items() if given[name] != resource.RLIM_INFINITY]
