"""Credentials that the official command line keeps. Its file names no server, so they go only to one that is named."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from tidemill.cli.logins import Login


def file_path(variables: Mapping[str, str]) -> Path:
    """``~/.blaxel/config.yaml`` (contract 2.2)."""
    return Path(variables.get("HOME", "~")).expanduser() / ".blaxel" / "config.yaml"


def login(variables: Mapping[str, str], url: str, workspace: str) -> Login | None:
    """What it has for ``workspace``, or for the one it uses when none is named; None where we can read nothing."""
    try:
        document = yaml.safe_load(file_path(variables).read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    if not isinstance(document, dict):
        return None
    context, entries = document.get("context"), document.get("workspaces")
    name = workspace or (str(context.get("workspace") or "") if isinstance(context, dict) else "")
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and entry.get("name") == name and isinstance(entry.get("credentials"), dict):
            return _login(url, name, entry["credentials"])
    return None


def _login(url: str, workspace: str, credentials: Mapping[str, object]) -> Login | None:
    """In the order in which the official command line takes them; its tokens are its own to renew."""
    api_key = credentials.get("apiKey")
    client = credentials.get("client_credentials") or credentials.get("clientCredentials")
    if isinstance(api_key, str) and api_key:
        return Login(url=url, workspace=workspace, api_key=api_key)
    if isinstance(client, str) and client:
        return Login(url=url, workspace=workspace, client_credentials=client)
    return None
