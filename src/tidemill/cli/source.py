"""A folder as it is deployed: the job that its blaxel.toml describes, and the archive of its files."""

import re
import stat
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, cast

from cyclopts import Parameter

from tidemill.cli.connection import parse_variables
from tidemill.cli.exits import CommandError, usage
from tidemill.cli.inputs import parse_env
from tidemill.manifest import FILE_NAME, Manifest, ManifestError, archive_members, job_name, load_manifest
from tidemill.sdk import Job
from tidemill.sdk.wire import JobSpec

LABEL: Final = "x-blaxel-auto-generated"
"""Says that the source follows (contract 5.1)."""
_BUILD_ENV: Final = ".env.build"
_NOT_SENT: Final = "BL_API_KEY"
"""Left out of what a job gets, as in `bl`: a task has no business with its owner's key."""
_REFERENCE: Final = re.compile(
    r"\$(?:\{(?P<braced_secret>secrets\.)?(?P<braced>[A-Za-z_]\w*)(?::(?P<default>.*))?\}"
    r"|(?P<secret>secrets\.)?(?P<bare>[A-Za-z_]\w*))"
)


@Parameter(name="*", group="Source", show_default=False)
@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFlags:
    """What flags say about a source."""

    name: Annotated[str, Parameter(alias="-n")] = ""
    """The job's name, where blaxel.toml has none (else the folder's)."""
    env_file: Annotated[list[Path], Parameter(alias="-e", negative="")] = field(default_factory=list)
    """Variables of the job from such a file, kept secret (default: .env in the folder)."""
    secret: Annotated[list[str], Parameter(alias="-s", negative="")] = field(default_factory=list)
    """NAME=VALUE: a variable of the job, kept secret; may be repeated."""


def read_manifest(folder: Path) -> Manifest:
    """The folder's blaxel.toml. Raises a usage error that names what is wrong with it, or that there is no folder."""
    if not folder.is_dir():
        raise usage(f"there is no folder {folder}")
    try:
        return load_manifest(folder)
    except ManifestError as error:
        raise usage(str(error)) from error
    except OSError as error:
        raise usage(f"cannot read {folder / FILE_NAME}: {error.strerror}") from error


def job_request(folder: Path, manifest: Manifest, flags: SourceFlags, variables: Mapping[str, str]) -> Job:
    """The job as it is sent. `variables` are those of the process, for `$X` in `[env]`.

    The label is there when the source follows; not when an image is named, for then there is nothing to build.
    """
    try:
        name = manifest.name or job_name(flags.name or folder.resolve().name)
    except ManifestError as error:
        raise usage(str(error)) from error
    spec = manifest.spec()
    runtime = {**cast("dict[str, object]", spec.get("runtime", {})), "envs": _envs(folder, manifest, flags, variables)}
    image = manifest.image or manifest.runtime.image
    if image:
        runtime["image"] = image
    labels = {} if image else {LABEL: "true"}
    return Job(metadata={"name": name, "labels": labels}, spec=cast("JobSpec", {**spec, "runtime": runtime}))


def pack(folder: Path, manifest: Manifest, target: Path) -> int:
    """Write the folder's archive to `target` and return how many files it holds.

    The same files give the same bytes, whenever and wherever they are packed. Raises a usage error for what cannot be
    read.
    """
    count = 0
    try:
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for path, name in archive_members(folder):
                _add(archive, path, name)
                count += not name.endswith("/")
            if build_env := _build_env(folder, manifest):
                archive.writestr(_entry(_BUILD_ENV, stat.S_IFREG | 0o600), build_env)
    except OSError as error:
        raise CommandError(f"cannot pack {error.filename or folder}: {error.strerror}") from error
    if not count:
        raise usage(f"there is nothing to deploy in {folder}")
    return count


def resolve(value: str, variables: Mapping[str, str], secrets: Mapping[str, str]) -> str:
    """A value of `[env]`: one that is entirely `$X`, `${X:default}` or `$secrets.X` stands for another (contract 9).

    Raises KeyError with the name of one that is not set and has no default.
    """
    match = _REFERENCE.fullmatch(value)
    if match is None:
        return value
    name = match["braced"] or match["bare"]
    secret = match["braced_secret"] or match["secret"]
    found = secrets.get(name) if secret else variables.get(name, secrets.get(name))
    if found is None:
        found = match["default"]
    if found is None:
        raise KeyError(f"secrets.{name}" if secret else name)
    return found


def _envs(
    folder: Path, manifest: Manifest, flags: SourceFlags, variables: Mapping[str, str]
) -> list[dict[str, str | bool]]:
    """Flags win over env files, those over `[env]` (contract 5.2). What came from the first two is kept secret."""
    secrets: dict[str, str] = {}
    for file in flags.env_file or [folder / ".env"]:
        try:
            secrets |= parse_variables(file.read_text())
        except FileNotFoundError as error:
            if flags.env_file:
                raise usage(f"there is no file {file}") from error
    secrets |= parse_env(flags.secret)
    envs: dict[str, dict[str, str | bool]] = {}
    for name, value in manifest.env.items():
        try:
            envs[name] = {"name": name, "value": resolve(value, variables, secrets)}
        except KeyError as error:
            missing = error.args[0]
            raise usage(f"{FILE_NAME}: env.{name} is {value}, but {missing} is not set and has no default") from error
    envs |= {name: {"name": name, "value": value, "secret": True} for name, value in secrets.items()}
    return [env for name, env in envs.items() if name != _NOT_SENT]


def _build_env(folder: Path, manifest: Manifest) -> str:
    """The build's arguments as lines: the folder's `.env.build` over `[build.args]` (contract 5.6)."""
    arguments = dict(manifest.build_args)
    file = folder / _BUILD_ENV
    if file.is_file():
        arguments |= parse_variables(file.read_text())
    return "".join(f"{name}={value}\n" for name, value in arguments.items())


def _add(archive: zipfile.ZipFile, path: Path, name: str) -> None:
    mode = path.stat().st_mode
    if name.endswith("/"):
        archive.writestr(_entry(name, mode), b"")
        return
    with path.open("rb") as content, archive.open(_entry(name, mode), "w", force_zip64=True) as entry:
        while chunk := content.read(1 << 20):
            entry.write(chunk)


def _entry(name: str, mode: int) -> zipfile.ZipInfo:
    # the first moment that a zip can name: times would make every archive another
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_STORED if name.endswith("/") else zipfile.ZIP_DEFLATED
    entry.external_attr = (mode & 0xFFFF) << 16 | (0x10 if name.endswith("/") else 0)
    return entry
