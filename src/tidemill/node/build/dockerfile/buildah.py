"""buildah, a builder of images: its commands, and what it is told of where it works.

Steps run by its isolation ``chroot``: without an OCI runtime of their own, for all of this runs in a container
(node/isolation/container/maker.py), and that is what keeps them.
"""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from tidemill.node.build import BuildError

PROGRAM: Final = "buildah"
IMAGE: Final = "localhost/tidemill:made"

_DRIVERS: Final = ("overlay", "vfs")
_POLICY: Final = '{"default": [{"type": "insecureAcceptAnything"}]}'
# registries of this machine, and no others, may be without TLS, as Docker has it; a name without a host is Docker's
_REGISTRIES: Final = """unqualified-search-registries = ["docker.io"]
short-name-mode = "disabled"
[[registry]]
location = "localhost"
insecure = true
[[registry]]
location = "127.0.0.1"
insecure = true
"""
# what a step may, of what this process may: as in Docker, but for devices, raw packets and entries of the audit
_POWERS: Final = (
    *("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE"),
    *("SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
)
_STEP: Final = re.compile(r"(?:\[\d+/\d+\] )?STEP (\d+(?:/\d+)?): (.*)")
_ERROR: Final = re.compile(r"(?:Error: |error )(.*)")
_QUOTED_STEP: Final = re.compile(r'building at STEP ".*": ')


@dataclass(slots=True)
class Said:
    """What of a command's output says how far it got: its last step, and its last complaint."""

    step: str = ""
    error: str = ""

    def hear(self, line: str) -> None:
        if found := _STEP.fullmatch(line):
            self.step = f"step {found[1]} ({found[2]})"
        elif found := _ERROR.fullmatch(line):
            self.error = _QUOTED_STEP.sub("", found[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Buildah:
    """Works below ``folder`` alone, which is its own. ``variables`` are those of the build."""

    folder: Path
    driver: str
    variables: Mapping[str, str] = field(repr=False)

    def pull(self, image: str, credentials: Path) -> None:
        """Fetch an image that a Dockerfile begins with. Raises BuildError."""
        said = Said()
        if self._run(("pull", self._policy, "--authfile", str(credentials), image), said) != 0:
            raise BuildError(
                f"the Dockerfile begins with {image}, which cannot be pulled: {said.error or 'see the log'}"
            )

    def build(self, context: Path, arguments: Mapping[str, str], root: Path) -> None:
        """Build ``context`` by its Dockerfile; ``root`` is then the root file system of the image.

        Raises BuildError, which says which step failed and of what.
        """
        said = Said()
        given = [f"--build-arg={name}={value}" for name, value in sorted(arguments.items())]
        how = ("--isolation=chroot", "--layers=false", "--format=docker", "--pull=false", f"--tag={IMAGE}")
        # a container made of the image would have a root too, and its ONBUILD run in it
        made = f"--output=type=local,dest={root}"
        words = ("bud", self._policy, *how, made, *given, f"--file={context / 'Dockerfile'}", str(context))
        if self._run(words, said) != 0:
            why = said.error or "the builder was ended"
            raise BuildError(
                f"the Dockerfile cannot be built: {said.step}: {why}" if said.step else f"Dockerfile: {why}"
            )

    def configuration(self) -> dict[str, Any]:
        """Of the image that was built, as OCI has it. Raises OSError."""
        document = json.loads(self._ask("inspect", "--type=image", IMAGE))
        found: dict[str, Any] = document["OCIv1"]
        return found

    def _run(self, words: Sequence[str], said: Said) -> int:
        """Its exit code, once all that it says has been said here too."""
        process = subprocess.Popen(
            (*self._command(), *words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**self.variables},
            text=True,
            errors="replace",
        )
        assert process.stdout is not None
        assert process.stderr is not None
        # two pipes, so that errors stay errors; what daemons of a step hold open is not waited for
        pairs = ((process.stdout, sys.stdout), (process.stderr, sys.stderr))
        threads = [threading.Thread(target=_pass_on, args=(*pair, said), daemon=True) for pair in pairs]
        for thread in threads:
            thread.start()
        code = process.wait()
        for thread in threads:
            thread.join(timeout=5)
        return code

    def _ask(self, *words: str) -> str:
        done = subprocess.run(
            (*self._command(), *words),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            env={**self.variables},
        )
        if done.returncode != 0:
            raise OSError(f"{PROGRAM} {words[0]}: {done.stderr.strip()[-500:]}")
        return done.stdout

    @property
    def _policy(self) -> str:
        return f"--signature-policy={_policy_file(self.folder)}"

    def _command(self) -> tuple[str, ...]:
        store = (f"--root={self.folder / 'store'}", f"--runroot={self.folder / 'run'}")
        return (PROGRAM, *store, f"--storage-driver={self.driver}")


def open_buildah(folder: Path, variables: Mapping[str, str]) -> Buildah:
    """Prepare the empty ``folder``, and choose how layers are laid over each other: by the kernel, or as copies.

    Raises OSError when it does not work at all.
    """
    temporary = folder / "tmp"
    temporary.mkdir()
    registries = folder / "registries.conf"
    registries.write_text(_REGISTRIES)
    settings = folder / "containers.conf"
    powers = ", ".join(f'"CAP_{name}"' for name in _POWERS)
    settings.write_text(f"[containers]\ndefault_capabilities = [{powers}]\ndefault_ulimits = []\n")
    _policy_file(folder).write_text(_POLICY)
    own = {
        "HOME": str(folder),
        "TMPDIR": str(temporary),
        "XDG_RUNTIME_DIR": str(temporary),
        "CONTAINERS_CONF": str(settings),
        "CONTAINERS_REGISTRIES_CONF": str(registries),
    }
    problem = OSError(f"{PROGRAM} knows no driver")
    for driver in _DRIVERS:
        found = Buildah(folder=folder, driver=driver, variables={**variables, **own})
        try:
            found._ask("info")  # noqa: SLF001  # one of this module's
        except OSError as error:
            problem = error
            continue
        return found
    raise problem


def _policy_file(folder: Path) -> Path:
    """Whose signatures an image must have: nobody's, as in Docker."""
    return folder / "policy.json"


def _pass_on(source: IO[str], target: IO[str], said: Said) -> None:
    with source:
        for line in source:
            said.hear(line.rstrip("\n"))
            target.write(line)
            target.flush()
