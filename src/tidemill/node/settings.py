"""What a node is told when it starts, and what it may use of its machine."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

SLOTS_PER_CORE: Final = 32
RESERVE_SHARE: Final = 0.10
RESERVE_MIN_MB: Final = 512
# a machine with less still runs something
MEMORY_MIN_MB: Final = 64

# what installers need of the environment a node was started in; nothing else of it enters the node, so that no task can
# read a secret of the server from there
_KEPT: Final = frozenset({"PATH", "HOME", "LANG", "TZ", "TMPDIR", "PYTHONPATH"})
_KEPT_FOR_NETWORK: Final = frozenset(
    {
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    }
)
_KEPT_PREFIXES: Final = ("LC_", "UV_", "PIP_")


# where clouds tell a machine, and so whoever runs on it, who it is and with which keys
METADATA_ADDRESSES: Final = (
    # AWS, Azure, Google, OpenStack, Oracle and most others; the second is the first in OpenStack's IPv6
    *("169.254.169.254", "fe80::a9fe:a9fe"),
    # AWS: IPv6, tasks of ECS, pods of EKS
    *("fd00:ec2::254", "169.254.170.2", "169.254.170.23", "fd00:ec2::23"),
    # Google's IPv6, Azure's own agent, Alibaba, Tencent, Oracle's older regions
    *("fd20:ce::254", "168.63.129.16", "100.100.100.200", "169.254.0.23", "192.0.0.192"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """Everything a node depends on but its data directory's contents.

    ``isolation`` is a level or ``auto``, ``minimum_isolation`` a level or empty. ``task_uid_first`` and
    ``task_uid_count`` say which users tasks of a node that is root run as, each one of its own at a time (count 0: all
    as the node's), ``dockerfile_uid_first`` where the numbers of builds of Dockerfiles are looked for (0: there are no
    such builds). ``task_read_paths`` and ``task_write_paths`` are absolute paths that attempts may use beside theirs,
    ``task_forbidden_addresses`` addresses and networks that they shall not reach.

    ``memory_mb`` and ``slots`` are what leases may use in all. ``idle_exit_s`` is how long a node with nothing to run
    waits for a server before it ends. ``log_spool_bytes`` bounds the output that waits for a server. ``limits`` is
    ``auto`` or ``none`` (docs/limits.md); ``task_pids`` bounds the processes and threads of an attempt, and with
    ``cpu_quota`` its share of CPU is a bound as well.
    """

    data_dir: Path
    region: str = "local"
    memory_mb: int
    slots: int
    idle_exit_s: float = 600.0
    log_spool_bytes: int = 1 << 30
    log_block_bytes: int = 256 << 10
    log_block_s: float = 1.0
    limits: str = "auto"
    task_pids: int = 2048
    cpu_quota: bool = False
    isolation: str = "auto"
    minimum_isolation: str = ""
    task_uid_first: int = 200_000
    task_uid_count: int = 4096
    dockerfile_uid_first: int = 1_900_000_000
    task_read_paths: tuple[str, ...] = ()
    task_write_paths: tuple[str, ...] = ()
    task_forbidden_addresses: tuple[str, ...] = METADATA_ADDRESSES

    def to_json(self) -> str:
        """One line that ``from_json`` reads."""
        return json.dumps({**asdict(self), "data_dir": str(self.data_dir)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "NodeSettings":
        """Raises ValueError or TypeError when ``text`` is not what ``to_json`` of this version writes."""
        document = json.loads(text)
        lists = ("task_read_paths", "task_write_paths", "task_forbidden_addresses")
        tuples = {name: tuple(document[name]) for name in lists}
        return cls(**{**document, **tuples, "data_dir": Path(document["data_dir"])})

    def digest(self) -> str:
        """Tells whether a node that runs was started with these settings."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]


def default_settings(data_dir: Path) -> NodeSettings:
    """The whole machine, less the reserve."""
    cores = len(os.sched_getaffinity(0))
    return NodeSettings(data_dir=data_dir, memory_mb=usable_memory_mb(), slots=SLOTS_PER_CORE * cores)


def usable_memory_mb() -> int:
    """Memory of the machine, or of the cgroup this process is in if that is less, without the reserve."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return less_reserve(min([machine, *_cgroup_limits(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))]) >> 20)


def less_reserve(total_mb: int) -> int:
    """What leases may use of so much memory: the rest is for server, node, and tasks that are about to pass a limit."""
    return max(MEMORY_MIN_MB, int(total_mb - max(total_mb * RESERVE_SHARE, RESERVE_MIN_MB)))


def _cgroup_limits(own: Path, root: Path) -> list[int]:
    """Limits in bytes of the cgroups that ``own`` names and of all above them; empty where there are none."""
    limits: list[int] = []
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return limits
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in {"", "memory"}:
            continue
        base = root / controllers if controllers else root
        name = "memory.limit_in_bytes" if controllers else "memory.max"
        inside = base / path.lstrip("/")
        for folder in [inside, *inside.parents]:
            limits += _read_limit(folder / name)
            if folder == base:
                break
    return limits


def _read_limit(file: Path) -> list[int]:
    try:
        text = file.read_text().strip()
    except OSError:
        return []
    return [int(text)] if text.isdigit() else []


def node_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The part of ``variables`` that a node is started with, and hands to builds."""
    return {
        name: value
        for name, value in variables.items()
        if name in _KEPT | _KEPT_FOR_NETWORK or name.startswith(_KEPT_PREFIXES)
    }
