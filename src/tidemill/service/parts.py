"""What the services work with, put together once by the server."""

from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from tidemill.blobs import Blobs
from tidemill.blobs.logfiles import LogFiles
from tidemill.model.admission import Admission
from tidemill.model.region import Regions
from tidemill.oidc.provider import Provider
from tidemill.outgoing.guard import Guard
from tidemill.secrets import KeyRing
from tidemill.store.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one request may bring (docs/settings.md)."""

    tasks: int = 1_000_000
    task_bytes: int = 1 << 20
    execution_body_bytes: int = 256 << 20
    body_bytes: int = 4 << 20
    upload_bytes: int = 512 << 20
    unpacked_bytes: int = 4 << 30
    unpacked_entries: int = 200_000
    build_memory_mb: int = 1024
    build_timeout_s: int = 1800


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """``arrivals`` is a directory of the data directory's file system, for bytes that are still coming in.

    ``issuer`` is the URL that names this server in its tokens, whatever address a client uses.
    ``guard`` says where callbacks may go.
    ``key_file`` is where the key ring came from, None when it was given. Admins of ``home`` are the server's own.
    ``provider`` is the OpenID provider that people may sign in through, None for none; ``admission`` says who.
    """

    database: Database
    keyring: KeyRing
    blobs: Blobs
    logfiles: LogFiles
    arrivals: Path
    limits: Limits
    regions: Regions = field(default_factory=Regions)
    issuer: str = "http://127.0.0.1:8700/v0"
    key_file: Path | None = None
    home: str = ""
    provider: Provider | None = None
    admission: Admission = field(default_factory=Admission)
    guard: Guard = field(default_factory=Guard)
    rotating: Lock = field(default_factory=Lock)
