"""The scheduler's single values; ``server.py`` makes them from the settings."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerPolicy:
    """``task_url`` and ``run_url`` are what a task's BL_API_URL and BL_RUN_URL say; ``region`` its BL_REGION."""

    task_url: str
    run_url: str
    region: str = "local"
    environment: str = "prod"
    grace_s: float = 10.0
    result_max_bytes: int = 1 << 20
    disk_percent: int = 0
    """What a task's directory may hold, in percent of its memory, where its job does not say; 0: no bound."""
    log_max_bytes: int = 64 << 20
    unpacked_max_bytes: int = 4 << 30
    unpacked_max_entries: int = 200_000
    look_every_s: float = 1.0
    """Pause between two looks at the engine's nodes, and between two tries of what could not be done."""
    reconcile_every_s: float = 30.0
    retention_days: float = 30.0
    """How long executions that have ended are kept, with all that is theirs."""
    audit_retention_days: float | None = None
    """How long rows of the audit are kept; None: for ever."""
    home: str = ""
    """The workspace that the server began with, whose admins see what it does by itself."""
    retain_every_s: float = 60.0
    swept_rows: int = 1_000
    """How many rows a unit of the sweep deletes."""
    unused_inputs_s: float = 3_600.0
    """How long inputs that no execution refers to are kept: far longer than a request takes to store them."""
    lease_margin_s: float = 10.0
    """How much longer than time to live and kill grace a lease is waited for: a call under way may take as long."""
    starving_after_s: float = 5.0
    """What has been overtaken, for want of room, for this long gets a node cleared for it."""
    poll_s: float = 1.0
    """How long one question for events waits; a stop waits that long too."""
    log_batch_bytes: int = 4 << 20
    kept_executions: int = 512
    """How many executions' environments are kept open in memory."""
    kept_arguments_bytes: int = 64 << 20
    """How much of the arguments of tasks that come next is kept unpacked in memory."""
