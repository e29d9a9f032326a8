"""What this machine lets a launcher do to confine a command: asked of the launcher, which tries each."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

PROBE_TIMEOUT_S: Final = 60

NO_LAUNCHER: Final = "the launcher is not built"
SCOPES_SIGNALS: Final = 6
"""The version of Landlock from which on it keeps signals inside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Protections:
    """What works. ``landlock`` is its version, 0 without it; ``missing`` says why something does not work, by its name.

    ``own_uid``: a command can be another user than the node. ``view``: one can have mounts of its own. ``no_network``:
    one can have a network of its own with nothing in it. ``volumes``: one can have directories of a size.
    """

    launcher: bool = False
    capabilities: bool = False
    seccomp: bool = False
    landlock: int = 0
    own_uid: bool = False
    view: bool = False
    no_network: bool = False
    volumes: bool = False
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def problem(self) -> str:
        """What level ``process`` lacks on this machine; "" when it is whole, be it without users of its own."""
        if not self.launcher:
            return NO_LAUNCHER
        lacks = [name for name in ("capabilities", "landlock", "seccomp") if not getattr(self, name)]
        return "; ".join(f"no {name} ({self.missing[name]})" for name in lacks)


def probe(launcher: Path | None, uid: int | None) -> Protections:
    """Try everything, in some milliseconds. ``uid`` is another user to become, None when none shall be tried.

    Raises OSError or SubprocessError when the launcher itself does not run.
    """
    if launcher is None:
        names = ("capabilities", "seccomp", "landlock", "own_uid", "view", "no_network", "volumes")
        return Protections(missing=dict.fromkeys(names, NO_LAUNCHER))
    words = [str(launcher), "--probe", *([] if uid is None else [str(uid)])]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=True)
    return read_probe(done.stdout)


def read_probe(text: str) -> Protections:
    """What the lines that the launcher prints say (launcher/probe.c)."""
    found: dict[str, int] = {}
    missing: dict[str, str] = {}
    for line in text.splitlines():
        match line.split():
            case [name, "missing", error]:
                missing[_NAMES.get(name, name)] = os.strerror(int(error))
            case [name, version]:
                found[_NAMES.get(name, name)] = int(version)
    return Protections(
        launcher="privileges" in found,
        capabilities="capabilities" in found,
        seccomp="seccomp" in found,
        landlock=found.get("landlock", 0),
        own_uid="own_uid" in found,
        view="view" in found,
        no_network="no_network" in found,
        volumes="volumes" in found,
        missing=missing,
    )


# the launcher names what is protected, people know the means
_NAMES: Final = {"files": "landlock", "calls": "seccomp", "uid": "own_uid", "network": "no_network"}
