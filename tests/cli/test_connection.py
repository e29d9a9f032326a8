"""How the command line finds its server, and what it loads on the way."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tidemill.cli.connection import Connection, api_url, data_directory, find_server, parse_variables
from tidemill.cli.exits import USAGE, CommandError
from tidemill.main import run
from tidemill.sdk import Endpoint

from .conftest import Reply, WireServer

ADMIN = (
    "BL_API_URL=http://127.0.0.1:8700/v0\nBL_RUN_URL=http://127.0.0.1:8700\nBL_WORKSPACE=default\nBL_API_KEY=admin\n"
)
CLIENT_COMMANDS = ("deploy", "run job", "get", "logs job", "results", "cancel", "delete job")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "admin.env").write_text(ADMIN)
    return tmp_path


def test_admin_env_alone_is_enough(directory: Path) -> None:
    found = find_server(Connection(data_dir=directory), {}, is_root=False)
    assert found.endpoint == Endpoint(api_url="http://127.0.0.1:8700/v0", api_key="admin", workspace="default")


def test_flags_win_over_variables_and_those_over_admin_env(directory: Path) -> None:
    variables = {"BL_API_KEY": "mine", "BL_WORKSPACE": "other", "TIDEMILL_DATA_DIR": str(directory)}
    found = find_server(Connection(workspace="third"), variables, is_root=False)
    assert found.endpoint == Endpoint(api_url="http://127.0.0.1:8700/v0", api_key="mine", workspace="third")
    assert found.key_source == "BL_API_KEY"


def test_the_admin_key_never_goes_to_another_server(directory: Path) -> None:
    with pytest.raises(CommandError, match=r"no credential for http://10\.0\.0\.1:8700/v0"):
        find_server(Connection(url="http://10.0.0.1:8700", data_dir=directory), {}, is_root=False)
    again = find_server(Connection(url="http://127.0.0.1:8700", data_dir=directory), {}, is_root=False)
    assert again.endpoint.api_key == "admin"


def test_nothing_found_names_what_to_start_and_never_a_hosted_service(tmp_path: Path) -> None:
    with pytest.raises(CommandError) as caught:
        find_server(Connection(data_dir=tmp_path), {"BL_API_KEY": "hosted"}, is_root=False)
    assert caught.value.code == USAGE
    assert any("tidemill server" in line for line in caught.value.advice)


@pytest.mark.parametrize(
    ("variables", "is_root", "directory"),
    [
        ({"TIDEMILL_DATA_DIR": "/srv/t", "HOME": "/home/u"}, False, "/srv/t"),
        ({"HOME": "/root"}, True, "/var/lib/tidemill"),
        ({"XDG_DATA_HOME": "/data", "HOME": "/home/u"}, False, "/data/tidemill"),
        ({"HOME": "/home/u"}, False, "/home/u/.local/share/tidemill"),
    ],
)
def test_the_data_directory_is_the_servers(variables: dict[str, str], is_root: bool, directory: str) -> None:
    assert data_directory(None, variables, is_root=is_root) == Path(directory)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://h:8700", "http://h:8700/v0"),
        ("http://h:8700/", "http://h:8700/v0"),
        ("https://h/v0/", "https://h/v0"),
        ("https://h/batch/v0", "https://h/batch/v0"),
        ("", ""),
    ],
)
def test_an_address_is_taken_as_people_write_it(text: str, url: str) -> None:
    assert api_url(text) == url


@pytest.mark.parametrize("text", ["h:8700", "ftp://h", "http://"])
def test_what_is_no_address_is_a_usage_error(text: str) -> None:
    with pytest.raises(CommandError, match="not the address"):
        api_url(text)


def test_an_env_file_may_have_comments_quotes_and_exports() -> None:
    text = "# c\nexport A='x y'\nB=\"1=2\"\n C = 3 \nD=\nnothing\n"
    assert parse_variables(text) == {"A": "x y", "B": "1=2", "C": "3", "D": ""}


def test_nobody_there_is_one_line_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["get", "jobs", "--url", "http://127.0.0.1:1", "--api-key", "k"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: no answer from http://127.0.0.1:1/v0")
    assert "tidemill server" in err


@pytest.mark.parametrize(
    "words", [["frobnicate"], ["run", "jop"], ["run", "job"], ["get", "jobs", "-o", "xml"], ["get"]]
)
def test_a_command_line_that_makes_no_sense_ends_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert "Traceback" not in captured.err


def test_a_misspelt_command_is_answered_with_the_right_one(capsys: pytest.CaptureFixture[str]) -> None:
    run(["resutls"])
    assert "did you mean results?" in capsys.readouterr().err


def loaded_by(*lines: str) -> set[str]:
    """What a fresh interpreter has loaded after these command lines."""
    calls = "".join(f"assert run({line.split()!r}) == 0\n" for line in lines)
    program = f"import json, sys\nfrom tidemill.main import run\n{calls}print(json.dumps(sorted(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    return set(json.loads(ran.stdout.splitlines()[-1]))


def test_the_list_of_commands_loads_none_of_them() -> None:
    loaded = loaded_by("--help", "--version")
    assert {name for name in loaded if name.startswith("tidemill.")} == {
        "tidemill.cli",
        "tidemill.cli.exits",
        "tidemill.main",
    }
    assert "httpx2" not in loaded


def test_client_commands_load_nothing_of_the_server() -> None:
    loaded = loaded_by(*(f"{command} --help" for command in CLIENT_COMMANDS))
    roots = {name.partition(".")[0] for name in loaded}
    server_stack = {"fastapi", "starlette", "sqlalchemy", "uvicorn", "alembic", "obstore", "msgspec", "structlog"}
    assert not roots & (server_stack | {"cryptography", "pydantic_settings", "tomlkit"})
    ours = {".".join(name.split(".")[:2]) for name in loaded if name.startswith("tidemill.")}
    assert ours == {"tidemill.main", "tidemill.cli", "tidemill.sdk", "tidemill.manifest"}


def test_a_reader_that_goes_away_is_no_error(wire: WireServer) -> None:
    lines = b"".join(b'{"index":%d,"result":"%s"}\n' % (index, b"x" * 1000) for index in range(2000))
    wire.on("GET /v0/jobs/etl/executions/e/results", Reply(body=lines))
    words = ["results", "etl", "e", "--url", wire.url, "--api-key", "k"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tidemill.main", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().startswith(b'{"index":0')
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=20) == 141
