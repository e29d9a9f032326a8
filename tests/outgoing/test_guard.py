"""Where requests may go: what is given, what it resolves to, and what that is a second later."""

from collections.abc import Sequence

import pytest

from tidemill.model.addresses import Allowed
from tidemill.outgoing.guard import Guard, Refused


class Names:
    """A resolver that knows these names, and gives the next answer each time; the last one for ever."""

    def __init__(self, **answers: Sequence[Sequence[str]]) -> None:
        self.answers = {name.replace("_", "."): list(each) for name, each in answers.items()}
        self.asked: list[str] = []

    def __call__(self, host: str, _port: int) -> Sequence[str]:
        self.asked.append(host)
        if host not in self.answers:
            raise OSError(f"no such host: {host}")
        answers = self.answers[host]
        return answers.pop(0) if len(answers) > 1 else answers[0]


def pinned(url: str, names: Names, *allow: str) -> list[str]:
    guard = Guard(allowed=Allowed.parse(allow), resolver=names)
    return [str(address) for address in guard.pin(guard.target(url)).addresses]


def refused(url: str, *allow: str) -> str:
    def never(host: str, port: int) -> Sequence[str]:
        raise AssertionError("the form alone must be enough")

    with pytest.raises(Refused) as error:
        Guard(allowed=Allowed.parse(allow), resolver=never).target(url)
    return str(error.value)


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1/", "http://127.0.0.1:8700/v0/jobs", "https://10.0.0.1/", "http://169.254.169.254/latest"),
        *("http://0.0.0.0/", "http://100.64.0.1/", "http://192.168.0.1/", "http://255.255.255.255/"),
        *("http://[::1]/", "http://[::]/", "http://[fd00:ec2::254]/", "http://[fe80::1]/", "http://[ff02::1]/"),
        *("http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/", "http://[0:0:0:0:0:ffff:127.0.0.1]/"),
        *("http://[64:ff9b::127.0.0.1]/", "http://[64:ff9b:1::1]/", "http://[2002:7f00:1::]/", "http://[2001::1]/"),
        "http://[::127.0.0.1]/",
    ],
)
def test_an_address_that_is_not_public_is_refused_when_it_is_given(url: str) -> None:
    assert "is not on the public Internet, and the server's setting callback_allow does not name it" in refused(url)


@pytest.mark.parametrize(
    "url",
    [
        *("http://0x7f.1/", "http://0x7f000001/", "http://0X7F.1/", "http://017700000001/", "http://2130706433/"),
        *("http://127.1/", "http://127.0.1/", "http://0177.0.0.1/", "http://127.0.0.01/", "http://127.0.0.256/"),
        *("http://127.0.0.1./", "http://localhost./", "http://example.com./", "http://example..com/", "http://.com/"),
        *("http://%31%32%37.0.0.1/", "http://127.0.0.1%00.example.com/", "http://[fe80::1%25eth0]/", "http://a,b.c/"),
        *("http://[::1/", "http://::1/", "http://[127.0.0.1]/", "http://[v1.a]/", "http:///x", "http:example.com"),
        *("http://-a.com/", f"http://{'a' * 64}.com/", f"http://{'a.' * 127}com/"),
    ],
)
def test_what_is_neither_a_plain_name_nor_a_plain_address_is_refused(url: str) -> None:
    message = refused(url)
    assert "neither the name of a host nor an address" in message or "cannot be read" in message


@pytest.mark.parametrize(
    "url",
    [
        *("http://127。0。0。1/", "http://①②⑦.⓪.⓪.①/", "http://ⓛocalhost.example/", "http://\u0440\u0430ypal.com/"),
        *("http://exa mple.com/", "http://example.com\\@127.0.0.1/", "http://example.com/\r\nX: y", "http://a.b/\t"),
        *("http://exam\u00adple.com/", "http://example.com/é", ""),
    ],
)
def test_look_alikes_and_what_parsers_disagree_on_are_refused(url: str) -> None:
    assert "outside of ASCII" in refused(url)


@pytest.mark.parametrize(
    "url",
    ["http://u@example.com/", "http://u:p@example.com/", "http://@example.com/", "http://example.com:80@10.0.0.1/"],
)
def test_users_and_passwords_are_refused(url: str) -> None:
    assert "user or a password" in refused(url)


@pytest.mark.parametrize("url", ["ftp://a.b/", "file:///etc/passwd", "gopher://a.b/", "//a.b/", "a.b", "unix:/run/x"])
def test_only_http_and_https_are_spoken(url: str) -> None:
    assert "must begin with http:// or https://" in refused(url)


@pytest.mark.parametrize("port", ["0", "1", "22", "25", "79", "81", "443", "1023", "65536", "99999"])
def test_ports_of_older_protocols_are_refused(port: str) -> None:
    assert f"the port {port} is" in refused(f"http://example.com:{port}/")
    assert "the port 80 is neither 443" in refused("https://example.com:80/")


@pytest.mark.parametrize("url", ["http://example.com:1024/", "http://example.com:80/", "https://example.com:65535/"])
def test_other_ports_are_not(url: str) -> None:
    assert Guard().target(url).port in {80, 1_024, 65_535}


@pytest.mark.parametrize("host", ["localhost", "redis", "metadata", "LOCALHOST"])
def test_a_name_without_a_domain_is_one_of_the_servers_own_network(host: str) -> None:
    assert "has no domain" in refused(f"http://{host}/")


def test_a_url_that_is_too_long_is_refused() -> None:
    assert "2001 characters" in refused(f"http://example.com/{'a' * 1_982}")


@pytest.mark.parametrize(
    "bad", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fd00::1", "::ffff:10.0.0.1", "64:ff9b::a00:1"]
)
def test_one_bad_address_among_several_refuses_all(bad: str) -> None:
    for answer in ([bad], ["8.8.8.8", bad], [bad, "8.8.8.8"], ["8.8.8.8", "1.1.1.1", bad]):
        with pytest.raises(Refused) as error:
            pinned("http://hook.example/", Names(hook_example=[answer]))
        assert "not on the public Internet" in str(error.value)
        assert bad not in str(error.value)


@pytest.mark.parametrize("odd", ["fe80::1%eth0", "0x7f.1", "localhost", ""])
def test_what_a_resolver_should_never_say_is_refused(odd: str) -> None:
    with pytest.raises(Refused, match="not on the public Internet"):
        pinned("http://hook.example/", Names(hook_example=[[odd]]))
    with pytest.raises(Refused, match="not on the public Internet"):
        pinned("http://hook.example/", Names(hook_example=[[]]))


def test_a_name_that_nobody_knows_is_refused() -> None:
    with pytest.raises(Refused, match=r"'hook\.example' has no address"):
        pinned("http://hook.example/", Names())


def test_the_checked_addresses_are_pinned_in_order_and_each_once() -> None:
    names = Names(hook_example=[["2606:4700::1111", "1.1.1.1", "::ffff:1.1.1.1", "8.8.8.8"]])
    assert pinned("http://hook.example/", names) == ["2606:4700::1111", "1.1.1.1", "8.8.8.8"]
    assert names.asked == ["hook.example"]


def test_a_literal_address_is_not_resolved() -> None:
    assert pinned("http://1.1.1.1/", Names()) == ["1.1.1.1"]
    assert pinned("http://[::ffff:1.1.1.1]/", Names()) == ["1.1.1.1"]


def test_each_request_is_checked_anew_when_the_name_has_moved_inside() -> None:
    names = Names(hook_example=[["1.1.1.1"], ["127.0.0.1"]])
    assert pinned("http://hook.example/", names) == ["1.1.1.1"]
    with pytest.raises(Refused):
        pinned("http://hook.example/", names)


def test_what_the_operator_names_is_reached_and_nothing_beside_it() -> None:
    names = Names(hook_internal=[["10.0.0.7", "10.9.9.9"]], other_internal=[["10.0.0.7"]], split_example=[["10.1.0.1"]])
    assert pinned("http://hook.internal:81/", names, "hook.internal") == ["10.0.0.7", "10.9.9.9"]
    assert pinned("http://HOOK.internal/", names, "hook.internal") == ["10.0.0.7", "10.9.9.9"]
    assert pinned("http://10.1.0.1:22/", names, "10.1.0.0/16") == ["10.1.0.1"]
    assert pinned("http://split.example/", names, "10.1.0.0/16") == ["10.1.0.1"]
    for url in ("http://other.internal/", "http://a.hook.internal/", "http://10.0.0.7/", "http://hook.internal.com/"):
        with pytest.raises(Refused):
            pinned(url, names, "hook.internal")
    # a public neighbour gets no other ports by it
    assert "the port 22 is" in refused("http://8.8.8.8:22/", "10.1.0.0/16")


def test_a_host_without_a_domain_is_reached_when_it_is_named() -> None:
    assert pinned("http://redis:6379/", Names(redis=[["10.0.0.9"]]), "redis") == ["10.0.0.9"]


@pytest.mark.parametrize(
    ("url", "authority", "path"),
    [
        ("HTTPS://Example.COM", "example.com", "/"),
        ("https://example.com:443/a?b=c#d", "example.com", "/a?b=c"),
        ("http://example.com:8080?x=@y", "example.com:8080", "/?x=@y"),
        ("http://[2606:4700::1111]:8080/", "[2606:4700::1111]:8080", "/"),
        ("http://xn--fiqs8s.example/", "xn--fiqs8s.example", "/"),
    ],
)
def test_what_is_sent_is_what_was_read(url: str, authority: str, path: str) -> None:
    target = Guard().target(url)
    assert (target.authority, target.path) == (authority, path)
