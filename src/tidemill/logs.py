"""Where the server's own log goes: stderr, one line an event, as JSON or for a person."""

import logging
import sys
from typing import Final

import structlog
from structlog.typing import Processor

# talkative at INFO, and about requests that are ours to tell of
_QUIET: Final = ("uvicorn", "uvicorn.error", "uvicorn.access", "alembic", "httpx2", "asyncio")


def configure(*, level: str, form: str) -> None:
    """Send structlog's events and the standard library's records to stderr; ``form`` is auto, json or console."""
    shared: list[Processor] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    person = form == "console" or (form == "auto" and sys.stderr.isatty())
    # the default traceback would show local variables: keys, environments
    last: list[Processor] = (
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if person
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.root.handlers = [handler]
    logging.root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.root.level))
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
