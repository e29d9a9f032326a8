"""``blaxel.toml`` and what of a folder travels."""

from pathlib import Path

import pytest

from tidemill.manifest import (
    DEFAULT_IGNORES,
    Manifest,
    ManifestError,
    archive_members,
    duration_s,
    is_ignored,
    job_name,
    load_manifest,
    parse_manifest,
    slugify,
)

FULL = """
type = "job"
name = "My Job_2"
workspace = "main"
region = "eu-lon-1"
policies = ["p1"]
skipRoot = true

[entrypoint]
prod = "python src/main.py"
dev = "python dev.py"

[env]
LEVEL = "debug"

[build]
slim = true
args = { TOKEN = "t" }

[runtime]
memory = 1024
timeout = "15m"
maxRetries = 2
maxConcurrentTasks = 7
generation = "mk2"
network = "none"
retryPolicy = { factor = 3 }

[[triggers]]
id = "nightly"
type = "cron"
[triggers.configuration]
schedule = "0 3 * * *"
timeout = "1h"

[[volumes]]
name = "scratch"
type = "ephemeral"
mountPath = "/scratch"

[githubRunner]
repositories = ["a/b"]

[job.other]
path = "jobs/other"
"""


def test_every_key_of_the_file_is_read() -> None:
    manifest = parse_manifest(FULL)

    assert (manifest.name, manifest.workspace, manifest.region) == ("my-job-2", "main", "eu-lon-1")
    assert (manifest.entrypoint_prod, manifest.entrypoint_dev) == ("python src/main.py", "python dev.py")
    assert (manifest.env, manifest.build_args) == ({"LEVEL": "debug"}, {"TOKEN": "t"})
    assert (manifest.skip_root, manifest.packages, manifest.warnings) == (True, {"other": "jobs/other"}, ())


def test_the_spec_of_a_request_has_what_the_file_says_and_durations_in_seconds() -> None:
    assert parse_manifest(FULL).spec() == {
        "runtime": {
            "memory": 1024,
            "timeout": 900,
            "maxRetries": 2,
            "maxConcurrentTasks": 7,
            "generation": "mk2",
            "network": "none",
            "retryPolicy": {"factor": 3},
        },
        "triggers": [
            {
                "id": "nightly",
                "type": "cron",
                "enabled": True,
                "configuration": {"schedule": "0 3 * * *", "timeout": 3600},
            }
        ],
        "region": "eu-lon-1",
        "volumes": [{"name": "scratch", "type": "ephemeral", "mountPath": "/scratch"}],
        "policies": ["p1"],
        "githubRunner": {"repositories": ["a/b"]},
    }


def test_what_the_file_does_not_say_is_not_in_the_spec(tmp_path: Path) -> None:
    assert load_manifest(tmp_path) == Manifest()
    assert parse_manifest("").spec() == {"runtime": {}}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("type = 'sandbox'", "type is 'sandbox'; only jobs are deployed here, write type = \"job\""),
        ("name = 3", "name is 3; it must be a string"),
        (f"name = '{'a' * 50}'", "has 50 characters; it must have at most 49"),
        ("[runtime]\nmemory = '2048'", "runtime.memory is '2048'; it must be a whole number"),
        ("[runtime]\nmaxRetries = true", "runtime.maxRetries is True; it must be a whole number"),
        ("[runtime]\nmaxRetries = -1", "runtime.maxRetries is -1"),
        ("[runtime]\ntimeout = '1h30m'", "runtime.timeout: '1h30m' is no duration"),
        ("[runtime]\nnetwork = 'off'", 'runtime.network is \'off\'; it must be "on" or "none"'),
        ("[env]\nPORT = 80", "env.PORT is 80; it must be a string, in quotes"),
        ("runtime = 1", "runtime is 1; it must be a table: [runtime]"),
        ("[triggers]\ntype = 'cron'", "it must be a list of tables: [[triggers]]"),
        ("[[triggers]]\nid = 'x'", "triggers[0].type is missing"),
        ("[[triggers]]\ntype='cron'\n[[triggers.configuration]]\nschedule='x'", "triggers[0].configuration is"),
        ("policies = 'one'", "it must be a list of strings"),
        ("name = ", "not valid TOML"),
        ("a = " + "[" * 5000, "not valid TOML"),
    ],
)
def test_a_wrong_value_is_refused_with_file_key_and_remedy(text: str, says: str) -> None:
    with pytest.raises(ManifestError) as caught:
        parse_manifest(text)
    assert str(caught.value).startswith("blaxel.toml: ")
    assert says in str(caught.value)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "blaxel.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(ManifestError, match="not UTF-8"):
        load_manifest(tmp_path)


def test_a_misspelt_key_and_a_plain_entrypoint_are_warned_of() -> None:
    manifest = parse_manifest("entrypoint = 'sh x'\nregoin = 'a'\n[runtime]\nmaxRetry = 1")

    assert manifest.entrypoint_prod is None
    assert [warning.removeprefix("blaxel.toml: ") for warning in manifest.warnings] == [
        "unknown key regoin, did you mean region?",
        "unknown key runtime.maxRetry, did you mean maxRetries?",
        'entrypoint is a string and is ignored; write [entrypoint] prod = "..."',
    ]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(0, 0), (900, 900), ("900", 900), ("15m", 900), ("1H", 3600), ("2d", 172_800), ("1w", 604_800), (" 30s ", 30)],
)
def test_a_duration_is_seconds(value: object, seconds: int) -> None:
    assert duration_s(value) == seconds


@pytest.mark.parametrize("value", ["", "1.5h", "-1", -1, True, 1.0, "1 h", "53w", "1y", None])
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(ManifestError):
        duration_s(value)


@pytest.mark.parametrize(
    ("text", "name"),
    [("My Job_2", "my-job-2"), ("a -_ b", "a-b"), ("éa!", "a"), ("---", "resource"), ("", "resource"), ("-a-", "a")],
)
def test_a_name_is_made_as_the_official_command_line_makes_it(text: str, name: str) -> None:
    assert slugify(text) == name


def test_a_long_name_is_refused_and_never_cut() -> None:
    assert job_name("a" * 49) == "a" * 49
    with pytest.raises(ManifestError, match="at most 49"):
        job_name("a" * 50)


@pytest.mark.parametrize(
    "name",
    [".git", ".gitignore", ".github/x", ".env.production", "distro.py", "a/dist", "a/dist/x", "a/b/__pycache__/c.pyc"],
)
def test_an_ignored_name_matches_as_prefix_and_as_component(name: str) -> None:
    assert is_ignored(name, DEFAULT_IGNORES)


@pytest.mark.parametrize("name", ["a/.gitignore", "a/distro.py", "main.py", "src/.envrc", "redist/x"])
def test_other_names_travel(name: str) -> None:
    assert not is_ignored(name, DEFAULT_IGNORES)


def _names(folder: Path) -> list[str]:
    return [name for _, name in archive_members(folder)]


def test_an_archive_follows_links_to_files_only(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "main.py").write_text("print()")
    (tmp_path / "outside").write_text("content")
    (folder / "linked").symlink_to(tmp_path / "outside")
    (folder / "linked_folder").symlink_to(folder / "src")
    (folder / "broken").symlink_to(tmp_path / "nothing")

    assert _names(folder) == ["linked", "linked_folder/", "src/", "src/main.py"]
    assert {name: path for path, name in archive_members(folder)}["linked"].read_text() == "content"


def test_an_ignore_file_replaces_the_defaults_but_not_build_arguments(tmp_path: Path) -> None:
    for name in (".env", ".env.build", "data", "keep", "logs"):
        (tmp_path / name).write_text("")
    (tmp_path / ".blaxelignore").write_text("# large\n\n  data  \nlogs/\n")

    assert _names(tmp_path) == [".blaxelignore", ".env", "keep"]


def test_a_folder_below_one_with_an_ignored_name_still_travels(tmp_path: Path) -> None:
    folder = tmp_path / "dist" / "project"
    folder.mkdir(parents=True)
    (folder / "main.py").write_text("")

    assert _names(folder) == ["main.py"]
