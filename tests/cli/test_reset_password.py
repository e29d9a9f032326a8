"""`tidemill reset-password` over real HTTP."""

from collections.abc import Callable
from typing import Final

from tests.cli.conftest import Ended, Reply, WireServer

PATH: Final = "/v0/users/ada%40example.org/password_reset"
MADE: Final = {"url": "http://tide.test/login/reset?key=k", "expiresAt": "2026-11-24T12:00:00.000000Z"}


def test_the_link_alone_is_on_stdout(wire: WireServer, tidemill: Callable[..., Ended]) -> None:
    wire.replies[f"POST {PATH}"] = [Reply(body=MADE)]
    ended = tidemill("reset-password", "ada@example.org")
    assert (ended.code, ended.out) == (0, f"{MADE['url']}\n"), ended.err
    assert MADE["expiresAt"] in ended.err
    assert tidemill("reset-password", "ada@example.org", "-o", "json").json() == MADE
    assert tidemill("reset-password").code == 2
