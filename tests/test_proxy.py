"""Which way requests to a server go: past proxies to this machine, and through one with its name said."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fake_server import FakeServer, ask, fault_of, make, serving

from stages.engines.proxy import proxy_for

DEAD = "http://someone:secret@127.0.0.1:9"
FAR = "http://models.invalid:8000/v1"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with serving() as server:
        yield server


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("proxy", [DEAD, "socks5://127.0.0.1:9"])
def test_this_machine_is_never_reached_through_a_proxy(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, name: str, proxy: str
) -> None:
    monkeypatch.setenv(name, proxy)
    assert ask(make(server)).text == "Action: look"
    for host in ("localhost", "127.0.0.2", "[::1]", "0.0.0.0", "a.localhost"):
        assert proxy_for(f"http://{host}:8000/v1") is None


@pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY"])
def test_a_proxy_that_does_not_answer_is_named_without_its_password(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, DEAD)
    text = fault_of(server, url=FAR)
    assert text.startswith(f"no server at {FAR} (Connect")
    assert f", through the proxy http://127.0.0.1:9 of {name})" in text and "NO_PROXY" in text and "secret" not in text


def test_what_a_proxy_answers_is_said_to_have_come_through_it(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.url.removesuffix("/v1"))  # a server that knows no such host
    text = fault_of(server, url=FAR)
    assert f"{FAR}: which model?" in text
    text = fault_of(server, url=FAR, model="far")
    assert "does not serve 'far'" in text and "HTTP 404 no such route, through the proxy http://127.0.0.1:" in text


def test_a_host_that_goes_around_the_proxy_does(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", DEAD)
    monkeypatch.setenv("NO_PROXY", "models.invalid")
    assert proxy_for(FAR) is None
    assert proxy_for("http://other.invalid/v1") is not None


def test_socks_without_its_package_is_a_clear_line(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://someone:secret@127.0.0.1:9")
    monkeypatch.setitem(__import__("sys").modules, "socksio", None)
    text = fault_of(server, url=FAR)
    assert text.startswith(
        f"{FAR}, through the proxy socks5://127.0.0.1:9 of ALL_PROXY: SOCKS needs `pip install 'httpx[socks]'`"
    )


def test_a_proxy_of_an_unknown_kind_is_named(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "gopher://127.0.0.1:9")
    text = fault_of(server, url=FAR)
    assert f"{FAR}, through the proxy gopher://127.0.0.1:9 of ALL_PROXY: no usable proxy" in text
