"""Logging in and out, and which server and credential a command then uses."""

import base64
import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tidemill.cli import logins
from tidemill.cli.exits import CommandError
from tidemill.cli.logins import Login
from tidemill.main import run

from .conftest import Ended, Reply, WireServer

WORKSPACES = Reply(body=[{"name": "main"}, {"name": "lab"}])
TOKEN = {"access_token": "access-1", "refresh_token": "refresh-1", "expires_in": 7200, "token_type": "Bearer"}
DEVICE = {
    "device_code": "device-1",
    "user_code": "ABCD-EFGH",
    "verification_uri": "http://tide.test/device",
    "verification_uri_complete": "http://tide.test/device?user_code=ABCD-EFGH",
    "expires_in": 600,
    "interval": 1,
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of one's own, with nothing in it and no variable that leads elsewhere."""
    for name in ("BL_API_URL", "BL_API_KEY", "BL_WORKSPACE", "BL_CLIENT_CREDENTIALS", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("TIDEMILL_DATA_DIR", raising=False)
    return tmp_path


@pytest.fixture
def command(home: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    def call(*words: str) -> Ended:
        code = run(list(words))
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return call


def kept(home: Path) -> list[Login]:
    return list(logins.read(home / ".config" / "tidemill" / "cli.toml"))


def authorization(wire: WireServer, line: str) -> str:
    return wire.find(line)[-1].headers["authorization"]


def test_a_key_is_tried_and_kept_where_only_its_owner_reads_it(
    wire: WireServer, command: Callable[..., Ended], home: Path
) -> None:
    wire.on("GET /v0/workspaces", WORKSPACES)
    ended = command("login", "--url", wire.origin, "--api-key", "key-1")
    assert (ended.code, ended.out) == (0, f"logged in to {wire.url}, workspace main\n")
    assert kept(home) == [Login(url=wire.url, workspace="main", api_key="key-1")]
    file = home / ".config" / "tidemill" / "cli.toml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700

    wire.on("GET /v0/jobs", Reply(body={"data": [], "meta": {"hasMore": False, "total": 0}}))
    assert command("get", "jobs").code == 0
    assert authorization(wire, "GET /v0/jobs") == "Bearer key-1"
    assert wire.find("GET /v0/jobs")[-1].headers["x-blaxel-workspace"] == "main"


def test_a_refused_key_is_not_kept(wire: WireServer, command: Callable[..., Ended], home: Path) -> None:
    wire.on("GET /v0/workspaces/main", Reply(status=401, body={"code": 401, "error": "Unauthorized", "message": "no"}))
    ended = command("login", "main", "--url", wire.origin, "--api-key", "wrong")
    assert ended.code == 1
    assert "error: no" in ended.err
    assert kept(home) == []


def test_client_credentials_are_kept_and_changed_for_tokens_when_those_end_soon(
    wire: WireServer, command: Callable[..., Ended], home: Path
) -> None:
    wire.on(
        "POST /v0/oauth/token",
        Reply(body={**TOKEN, "refresh_token": ""}),
        Reply(body={**TOKEN, "access_token": "access-2"}),
    )
    wire.on("GET /v0/workspaces", WORKSPACES)
    assert command("login", "--url", wire.origin, "--client-credentials", "id:secret").code == 0
    first = wire.find("POST /v0/oauth/token")[0]
    assert first.headers["authorization"] == f"Basic {base64.b64encode(b'id:secret').decode()}"
    assert json.loads(first.body) == {"grant_type": "client_credentials"}
    assert authorization(wire, "GET /v0/workspaces") == "Bearer access-1"

    assert command("token").out == "access-1\n"
    assert len(wire.find("POST /v0/oauth/token")) == 1
    (login,) = kept(home)
    file = home / ".config" / "tidemill" / "cli.toml"
    logins.write(
        file, [Login(url=login.url, workspace="main", client_credentials="id:secret", access_token="old", expires_at=1)]
    )
    assert command("token").out == "access-2\n"
    assert kept(home)[0].access_token == "access-2"


def test_a_person_approves_a_code_in_a_browser(wire: WireServer, command: Callable[..., Ended], home: Path) -> None:
    wire.on("POST /v0/login/device", Reply(body=DEVICE))
    pending = {"code": 400, "error": "authorization_pending", "message": "nobody has approved it yet"}
    wire.on("POST /v0/oauth/token", Reply(status=202, body={}), Reply(status=400, body=pending), Reply(body=TOKEN))
    wire.on("GET /v0/workspaces/lab", Reply(body={"name": "lab"}))
    ended = command("login", "lab", "--url", wire.origin)
    assert ended.code == 0, ended.err
    assert "http://tide.test/device?user_code=ABCD-EFGH" in ended.err
    assert "ABCD-EFGH" in ended.err
    polls = [json.loads(seen.body) for seen in wire.find("POST /v0/oauth/token")]
    assert len(polls) == 3
    assert polls[0]["device_code"] == "device-1"
    assert (kept(home)[0].workspace, kept(home)[0].refresh_token) == ("lab", "refresh-1")


def test_a_denied_code_ends_the_login(wire: WireServer, command: Callable[..., Ended], home: Path) -> None:
    wire.on("POST /v0/login/device", Reply(body=DEVICE))
    denied = {"code": 400, "error": "access_denied", "message": "somebody has denied it"}
    wire.on("POST /v0/oauth/token", Reply(status=400, body=denied))
    ended = command("login", "--url", wire.origin)
    assert ended.code == 1
    assert "somebody has denied it" in ended.err
    assert kept(home) == []


def test_a_refresh_token_is_changed_and_the_new_one_kept(
    wire: WireServer, command: Callable[..., Ended], home: Path
) -> None:
    file = home / ".config" / "tidemill" / "cli.toml"
    logins.write(file, [Login(url=wire.url, workspace="main", access_token="a", refresh_token="r", expires_at=1)])
    wire.on("POST /v0/oauth/token", Reply(body={**TOKEN, "refresh_token": "r2"}))
    assert command("token").out == "access-1\n"
    assert kept(home)[0].refresh_token == "r2"
    assert json.loads(wire.find("POST /v0/oauth/token")[0].body)["refresh_token"] == "r"
    logins.write(file, [Login(url=wire.url, workspace="main", access_token="a", refresh_token="r2", expires_at=1)])
    gone = {"code": 400, "error": "invalid_grant", "message": "this refresh token was used before"}
    wire.on("POST /v0/oauth/token", Reply(status=400, body=gone))
    ended = command("token")
    assert ended.code == 1
    assert "tidemill login main" in ended.err


def test_logging_out_tells_the_server_and_forgets(wire: WireServer, command: Callable[..., Ended], home: Path) -> None:
    file = home / ".config" / "tidemill" / "cli.toml"
    lab = Login(url=wire.url, workspace="lab", api_key="k")
    logins.write(file, [Login(url=wire.url, workspace="main", access_token="a", refresh_token="r", expires_at=1), lab])
    wire.on("POST /v0/oauth/revoke", Reply(body={}))
    assert command("logout").code == 0
    assert json.loads(wire.find("POST /v0/oauth/revoke")[0].body) == {"token": "r"}
    assert kept(home) == [lab]
    assert command("logout", "main").code == 2
    assert command("logout", "lab").code == 0
    assert kept(home) == []


def test_workspaces_lists_logins_and_chooses_one(wire: WireServer, command: Callable[..., Ended], home: Path) -> None:
    file = home / ".config" / "tidemill" / "cli.toml"
    logins.write(file, [Login(url=wire.url, workspace=name, api_key=f"key of {name}") for name in ("main", "lab")])
    assert command("workspaces", "--current").out == "main\n"
    assert command("workspaces", "lab", "--current").out == "lab\n"
    shown = command("workspaces", "-o", "json")
    assert [(each["workspace"], each["current"]) for each in shown.json()] == [("lab", True), ("main", False)]
    assert "key of" not in command("workspaces").out + shown.out
    assert command("token").out == "key of lab\n"
    assert command("workspaces", "other").code == 2


def test_a_login_goes_to_its_own_server_only(wire: WireServer, command: Callable[..., Ended], home: Path) -> None:
    file = home / ".config" / "tidemill" / "cli.toml"
    logins.write(file, [Login(url="http://10.0.0.1:8700/v0", workspace="main", api_key="not for here")])
    ended = command("get", "jobs", "--url", wire.origin)
    assert ended.code == 2
    assert "no credential" in ended.err
    assert wire.seen == []


def test_a_named_data_directory_counts_before_logins(
    wire: WireServer, command: Callable[..., Ended], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "admin.env").write_text(f"BL_API_URL={wire.url}\nBL_WORKSPACE=default\nBL_API_KEY=admin\n")
    file = home / ".config" / "tidemill" / "cli.toml"
    logins.write(file, [Login(url="http://10.0.0.1:8700/v0", workspace="main", api_key="k")])
    assert command("token", "--data-dir", str(home)).out == "admin\n"
    monkeypatch.setenv("TIDEMILL_DATA_DIR", str(home))
    assert command("token").out == "admin\n"


def test_credentials_of_the_official_command_line_go_to_a_server_that_is_named(
    wire: WireServer, command: Callable[..., Ended], home: Path
) -> None:
    entry = {"name": "main", "credentials": {"apiKey": "official"}}
    (home / ".blaxel").mkdir()
    config = {"context": {"workspace": "main"}, "workspaces": [entry]}
    (home / ".blaxel" / "config.yaml").write_text(yaml.safe_dump(config))
    assert command("token", "--url", wire.origin).out == "official\n"
    assert command("token", "--url", wire.origin, "-w", "other").code == 2
    assert command("token").code == 2


@pytest.mark.parametrize("text", ["login = 7", "[[login]]\nurl = 1", "not toml", "[[login]]\nworkspace = 'x'", ""])
def test_a_broken_file_is_told(tmp_path: Path, text: str) -> None:
    file = tmp_path / "cli.toml"
    file.write_text(text)
    with pytest.raises(CommandError, match="cannot be read"):
        logins.read(file)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    odd = Login(url="http://h/v0", workspace='a"b\\c\né', api_key="k", expires_at=7)
    file = tmp_path / "deep" / "cli.toml"
    for several in ([odd, Login(url="http://i/v0", workspace="x")], []):
        logins.write(file, several)
        assert logins.read(file) == several
