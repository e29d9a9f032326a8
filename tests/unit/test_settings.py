from pathlib import Path

import pytest

from tidemill.settings import RESERVED_WORKSPACES, Settings, SettingsError, described


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TIDEMILL_DATA_DIR", "TIDEMILL_PORT", "TIDEMILL_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def test_flags_win_over_variables_and_those_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "tidemill.toml"
    file.write_text('host = "file"\nport = 1\nplan = "file"\n')
    monkeypatch.setenv("TIDEMILL_HOST", "variable")
    monkeypatch.setenv("TIDEMILL_PORT", "2")
    found = Settings.load({"config": file, "port": 3, "host": None})
    assert (found.plan, found.host, found.port) == ("file", "variable", 3)
    monkeypatch.setenv("TIDEMILL_CONFIG", str(file))
    assert Settings.load({}).plan == "file"


def test_an_unknown_variable_stops_with_what_was_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_PROT", "1")
    with pytest.raises(SettingsError, match="TIDEMILL_PROT; did you mean TIDEMILL_PORT"):
        Settings.load({})


def test_an_unknown_line_of_the_file_stops_with_what_was_meant(tmp_path: Path) -> None:
    file = tmp_path / "tidemill.toml"
    file.write_text("prot = 1\n")
    with pytest.raises(SettingsError, match="prot; did you mean port"):
        Settings.load({"config": file})


@pytest.mark.parametrize("text", ["port = ", "\xff"])
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "tidemill.toml"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(SettingsError, match=r"tidemill\.toml"):
        Settings.load({"config": file})


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.toml"):
        Settings.load({"config": tmp_path / "nowhere.toml"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "x"),
        ("port", 65_536),
        ("bootstrap_workspace", "v0"),
        ("bootstrap_workspace", "Has Space"),
        ("public_url", "tide.example"),
        ("max_tasks", 0),
        ("engine", "abacus"),
        ("trusted_proxies", ["proxy.example"]),
        ("trusted_proxies", ["10.0.0.1/8"]),
        ("cors_origins", ["*"]),
        ("cors_origins", ["https://console.example/"]),
        ("cors_origins", ["console.example"]),
        ("unauthenticated_per_s", -1),
        ("header_timeout_s", 0),
    ],
)
def test_a_value_that_cannot_be_names_its_setting(name: str, value: object) -> None:
    with pytest.raises(SettingsError, match=name):
        Settings.load({name: value})


def test_lists_of_the_edge_are_json_in_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_TRUSTED_PROXIES", '["10.0.0.0/8", "192.0.2.1", "fd00::/8"]')
    monkeypatch.setenv(
        "TIDEMILL_CORS_ORIGINS", '["https://console.example", "http://localhost:3000", "http://[::1]:80"]'
    )
    found = Settings.load({})
    assert [str(each) for each in found.trusted_proxies] == ["10.0.0.0/8", "192.0.2.1/32", "fd00::/8"]
    assert found.cors_origins[2] == "http://[::1]:80"


@pytest.mark.parametrize("name", sorted(RESERVED_WORKSPACES))
def test_a_workspace_cannot_take_the_name_of_a_path(name: str) -> None:
    with pytest.raises(SettingsError, match="bootstrap_workspace"):
        Settings.load({"bootstrap_workspace": name})


def test_the_names_of_paths_are_those_of_the_promise() -> None:
    promised = {"v0", "console", "docs", "login", "device", "healthz", "readyz", "metrics"}
    assert promised <= RESERVED_WORKSPACES


def test_the_limits_are_those_of_the_promise_unless_set() -> None:
    mib = 1 << 20
    promised = {
        "max_tasks": 1_000_000,
        "max_task_bytes": mib,
        "max_result_bytes": mib,
        "max_execution_body_bytes": 256 * mib,
        "max_body_bytes": 4 * mib,
        "max_upload_bytes": 512 * mib,
        "max_unpacked_bytes": 4096 * mib,
        "max_unpacked_entries": 200_000,
        "kill_grace_s": 10,
        "plan": "self-hosted",
    }
    found = Settings.load({}).model_dump()
    assert {name: found[name] for name in promised} == promised


def test_variables_of_tasks_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_TASK_FILE", "/x")
    monkeypatch.setenv("TIDEMILL_ATTEMPT_ID", "x/0/1")
    Settings.load({})


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_BOOTSTRAP_API_KEY", "canary-key")
    monkeypatch.setenv("TIDEMILL_KEY_RING", "canary-ring")
    found = Settings.load({})
    assert "canary" not in repr(found)
    assert found.bootstrap_api_key is not None
    assert found.bootstrap_api_key.get_secret_value() == "canary-key"


def test_every_setting_has_a_sentence() -> None:
    assert [each.name for each in described(Settings) if not each.description.endswith(".")] == []


def test_the_servers_own_region_is_one_of_the_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_REGIONS", '["eu", "us"]')
    with pytest.raises(SettingsError, match="region is 'local'; it must be one of regions: eu, us"):
        Settings.load({})
    assert Settings.load({"region": "us"}).regions == ("eu", "us")


PROVIDER = {"oidc_issuer": "https://id.example.org/x/", "oidc_client_id": "tidemill"}


def test_a_provider_is_whole_or_none() -> None:
    found = Settings.load({**PROVIDER, "oidc_client_secret": "hidden", "oidc_domains": ["example.org"]})
    assert found.oidc_issuer == "https://id.example.org/x/"
    assert "hidden" not in repr(found)
    with pytest.raises(SettingsError, match="oidc_client_id"):
        Settings.load({"oidc_issuer": "https://id.example.org"})
    for name, value in (("oidc_client_id", "x"), ("oidc_client_secret", "x"), ("oidc_workspace", "main")):
        with pytest.raises(SettingsError, match=f"{name} is set; oidc_issuer"):
            Settings.load({name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("oidc_issuer", "http://id.example.org"),
        ("oidc_issuer", "id.example.org"),
        ("oidc_issuer", "https://id.example.org/?x=y"),
        ("oidc_issuer", "https://id.example.org/#x"),
        ("oidc_issuer", "https://user@id.example.org"),
        ("oidc_issuer", "https://"),
        ("oidc_issuer", "file:///etc/passwd"),
        ("oidc_scopes", "email profile"),
        ("oidc_claim", "groups"),
        ("oidc_claim", "=x"),
        ("oidc_claim", "groups="),
        ("oidc_domains", ["@example.org"]),
        ("oidc_role", "owner"),
        ("oidc_timeout_s", 0),
    ],
)
def test_a_provider_that_is_none(name: str, value: object) -> None:
    with pytest.raises(SettingsError, match=name):
        Settings.load({**PROVIDER, name: value})


@pytest.mark.parametrize("issuer", ["http://127.0.0.1:8080", "http://localhost:1/realms/x", "http://[::1]:8080"])
def test_a_provider_of_this_machine_needs_no_certificate(issuer: str) -> None:
    assert Settings.load({**PROVIDER, "oidc_issuer": issuer}).oidc_issuer == issuer


def test_what_tasks_are_kept_from_is_metadata_unless_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "169.254.169.254" in Settings.load({}).task_forbidden_addresses
    monkeypatch.setenv("TIDEMILL_TASK_FORBIDDEN_ADDRESSES", '["10.0.0.0/8", "fd00::1"]')
    assert Settings.load({}).task_forbidden_addresses == ("10.0.0.0/8", "fd00::1")
    monkeypatch.setenv("TIDEMILL_TASK_FORBIDDEN_ADDRESSES", "[]")
    assert Settings.load({}).task_forbidden_addresses == ()


@pytest.mark.parametrize("text", ["metadata.internal", "10.0.0.1/8", "300.1.1.1", ""])
def test_what_is_no_address_cannot_be_forbidden(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("TIDEMILL_TASK_FORBIDDEN_ADDRESSES", f'["{text}"]')
    with pytest.raises(SettingsError, match=f"'{text}' must be an address or a network, such as 10.0.0.0/8"):
        Settings.load({})
