"""What the settings of a server mean for the node that it starts on its own machine."""

from dataclasses import replace

from tidemill.node.settings import NodeSettings, default_settings
from tidemill.settings import Settings


def node_settings(settings: Settings) -> NodeSettings:
    """What the node of a server with these settings is told."""
    machine = default_settings(settings.data_dir)
    return replace(
        machine,
        region=settings.region,
        memory_mb=settings.node_memory_mb or machine.memory_mb,
        slots=settings.node_slots or machine.slots,
        limits=settings.task_limits,
        task_pids=settings.task_pids,
        cpu_quota=settings.task_cpu_quota,
        isolation=settings.isolation,
        minimum_isolation=settings.minimum_isolation or "",
        task_uid_first=settings.task_uid_first,
        task_uid_count=settings.task_uid_count,
        dockerfile_uid_first=settings.dockerfile_uid_first,
        task_read_paths=tuple(map(str, settings.task_read_paths)),
        task_write_paths=tuple(map(str, settings.task_write_paths)),
        task_forbidden_addresses=settings.task_forbidden_addresses,
    )
