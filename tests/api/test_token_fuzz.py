"""Whatever is sent to where tokens are given and people sign in: never a 500."""

import json
import re
from typing import Final
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.asking import Api
from tests.api.test_fuzz import odd, odd_text
from tests.api.test_tokens import NOBODY

FUZZ: Final = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
FORM: Final = "application/x-www-form-urlencoded"
PATHS: Final = (
    "/v0/oauth/token",
    "/v0/oauth/revoke",
    "/v0/oauth/introspect",
    "/v0/login/device",
    "/v0/profile/password",
)
PAGES: Final = ("/login", "/login/end", "/device")
GRANTS: Final = st.sampled_from(
    ["client_credentials", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code", ""]
)
members = st.fixed_dictionaries(
    {},
    optional={
        "grant_type": st.one_of(GRANTS, odd),
        **dict.fromkeys(("client_id", "client_secret", "device_code", "scope", "current", "new"), odd),
        **dict.fromkeys(("refresh_token", "token"), st.one_of(odd, st.builds("tmr_{}.{}".format, odd_text, odd_text))),
    },
)
fields = st.dictionaries(
    st.sampled_from(["email", "password", "token", "user_code", "decision", "x"]), odd_text, max_size=4
)
header = st.one_of(
    st.just("Basic YTpi"),
    st.builds("Basic {}".format, st.text(alphabet="AZaz09+/=:. ", max_size=12)),
    st.builds("Bearer ey{}.{}.{}".format, *[st.text(alphabet="AZaz09-_eyJ", max_size=20)] * 3),
)


@pytest.mark.parametrize("path", PATHS)
def test_no_body_breaks_it(api: Api, path: str) -> None:
    @FUZZ
    @given(members)
    def sent(body: dict[str, object]) -> None:
        headers = {} if path in PATHS[2:5:2] else NOBODY
        method = "PUT" if path.endswith("password") else "POST"
        answer = api.request(method, path, content=encoded(body), headers=headers)
        assert answer.status_code in {200, 400, 429}, answer.text

    sent()


@FUZZ
@given(st.sampled_from(("/v0/oauth/token", "/v0/jobs")), header)
def test_no_header_breaks_it(api: Api, path: str, value: str) -> None:
    method = "POST" if path.endswith("token") else "GET"
    answer = api.request(method, path, content=b'{"grant_type":"client_credentials"}', headers={"Authorization": value})
    assert answer.status_code in {400, 401}, answer.text


@FUZZ
@given(st.sampled_from(PAGES), fields, st.text(alphabet='AZaz09"\\;=, \u00e9', max_size=12))
def test_no_form_and_no_cookie_breaks_a_page(api: Api, path: str, sent: dict[str, str], cookie: str) -> None:
    form = "&".join(f"{name}={quote(value, errors='surrogatepass')}" for name, value in sent.items()).encode()
    cookies = f"tidemill_form={cookie}; tidemill_session={cookie}".encode("latin-1")
    headers = {**NOBODY, "Content-Type": FORM, "Cookie": cookies}
    answer = api.request("POST", path, content=form, headers=headers)
    assert answer.status_code in {400, 403}, answer.text
    assert all(re.match(r"tidemill_form=[\w-]{43};", line) for line in answer.headers.get_list("set-cookie"))
    shown = api.request("GET", "/device?" + form.decode(), headers=headers)
    assert shown.status_code in {200, 400, 404}, shown.text


def encoded(body: object) -> bytes:
    """JSON with what is in it written out, be it no text."""
    return json.dumps(body).encode()
