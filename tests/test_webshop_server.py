"""The site over loopback, and the adapter that plays on one: the same transcript as in process, whatever the network does."""

from __future__ import annotations

import http.client
import json
import random
import re
import socketserver
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest
from little_shop import ANY_MUG, LUMO, NOOR, ODD, SHELF, WANTED, LittleShop

from stages.envs.base import EnvironmentFault, Observation, Task
from stages.envs.webshop.catalogue import Catalogue
from stages.envs.webshop.environment import observe
from stages.envs.webshop.pages import LocalSite, Node, Page, PageError, Place, to_path
from stages.envs.webshop.sessions import ClientSession
from stages.site import remote
from stages.site.remote import RemoteShop, read_nodes
from stages.site.server import ShopServer, serve

GOALS = [WANTED, ANY_MUG]
PATIENT = 60.0  # seconds: a busy machine is no fault


@pytest.fixture(scope="module")
def server() -> Iterator[ShopServer]:
    with serve(LittleShop(), GOALS) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.0)


def task(number: int = 0, **spec: Any) -> Task:
    goal = GOALS[number]
    named = {"session": f"fixed_{number}", "instruction": goal.instruction, **spec}
    return Task(f"t{number}", "webshop", "dev", "garden", goal.instruction, named)


def request(server: ShopServer, path: str, form: str | None = None) -> tuple[int, str, str]:
    """Status, text and where a redirect leads."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=PATIENT)
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    connection.request("GET" if form is None else "POST", path, body=form, headers=headers)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text, response.headers.get("Location", "")


# The same transcript as in process


def some_action(draw: random.Random, page: Page) -> str:
    names = [node.text for node in page.nodes if node.kind != "text"]
    words = ["lamp", "odd", "mug/cup", "what / ? #", "the of and", "", "[x] 'y'", "<r>", "..", "100% été", "plain+lamp"]
    odd = ["", "think[hm]", "search[lamp]", "click[Search]", "click[Attributes]", "click[< Prev]", "click[[x]]", "buy"]
    if draw.random() < 0.15:
        return draw.choice(odd)
    if page.place.page == "start":
        return f"search[{draw.choice(words)}]"
    return "click[Buy Now]" if draw.random() < 0.1 else f"click[{draw.choice(names)}]"


@pytest.mark.parametrize("number", range(len(GOALS)))
def test_random_walks_read_the_same_over_http_as_in_process(server: ShopServer, number: int) -> None:
    draw = random.Random(number)
    shop = RemoteShop(server.url, timeout=PATIENT, retries=0)
    steps = purchases = 0
    while steps < 400:
        local = ClientSession(LocalSite(LittleShop(), GOALS[number]), "papers")
        assert shop.reset(task(number)) == observe(local)
        for _ in range(25):
            action = some_action(draw, local.page)
            # An official site shows the reward and not its parts.
            expected = replace(observe(local, local.step(action)), parts={})
            assert shop.step(action) == expected, action
            steps += 1
            if expected.done:
                purchases += 1
                break
    assert purchases > 5


def test_every_string_of_every_page_survives_the_html(server: ShopServer) -> None:
    site = LocalSite(LittleShop(), ANY_MUG)
    items = [Place("item", ("lamp",), asin=item.asin) for item in (LUMO, NOOR, ODD)]
    chosen = Place("item", ("lamp",), asin=ODD.asin, options={"fit type": "50% off"})
    tabs = [
        Place("sub", ("x",), asin=ODD.asin, tab=tab) for tab in ("Description", "Features", "Reviews", "Attributes")
    ]
    for place in (Place(), Place("results", ("lamp", "odd"), 2), Place("results", ("[",), 0), *items, chosen, *tabs):
        status, html, _ = request(server, to_path("fixed_1", place))
        assert status == 200
        assert list(read_nodes(html)) == [node for node in site.open(place).nodes if node.text], place


# The site


def test_the_papers_client_finds_what_it_parses(server: ShopServer) -> None:
    _, item, _ = request(
        server, to_path("fixed_0", Place("item", ("lamp",), asin=LUMO.asin, options={"color": "black"}))
    )
    assert "<label" in item
    assert re.findall(r"<label[^>]*>([^<]*)</label>", item) == ["black", "white", "small", "large"]
    assert re.findall(r"<button[^>]*>([^<]*)</button>", item)[-1] == "Buy Now"
    assert item.count(" checked") == 1
    _, results, _ = request(server, "/search_results/fixed_0/lamp/1")
    assert len(re.findall(r'<a class="product-link" href="[^"]+">B0\w{8}</a>', results)) == 10
    # as a published client writes it: a Python dictionary, quoted by its HTTP library
    _, done, _ = request(server, "/done/fixed_0/B0LUMO0001/%7B'color':%20'black'%7D")
    assert '<h3 id="reward">Your score (min 0.0, max 1.0)<pre>0.75</pre></h3>' in done
    parts = re.search(r'<div id="reward_info"><pre>(.*?)</pre>', done)
    assert parts is not None
    assert json.loads(parts[1].replace("&quot;", '"'))["options_met"] == 1


def test_the_sites_special_searches_are_answered_as_in_process() -> None:
    stock = Catalogue(SHELF)
    with serve(stock, GOALS) as running:
        _, _, there = request(running, "/fixed_0", "search_query=%3Cc%3E+garden+x")
        _, found, _ = request(running, there)
        assert f"(Total results: {len(SHELF)})" in found
        shop = RemoteShop(running.url, timeout=PATIENT, retries=0)
        for search, results in (("<r>", len(SHELF)), ("<c>", 0), ("<q>", 0), ("<c> garden x", 0)):
            local = ClientSession(LocalSite(stock, WANTED), "papers")
            shop.reset(task())
            assert shop.step(f"search[{search}]") == observe(local, local.step(f"search[{search}]"))
            assert f"(Total results: {results})" in local.text


def test_a_browser_can_shop_with_forms_and_links(server: ShopServer) -> None:
    assert request(server, "/")[0] == 302
    status, _, path = request(server, "/fixed_0", form="search_query=Lumo+MUG")
    assert status == 302
    _, results, _ = request(server, path)
    assert "Page 1 (Total results: 2)" in results
    link = re.search(r'class="product-link" href="([^"]+)"', results)
    assert link is not None
    _, item, _ = request(server, link[1])
    black = re.search(r'value="black" data-url="([^"]+)"', item)
    assert black is not None
    _, item, _ = request(server, black[1].replace("&#x27;", "'"))
    buy = re.search(r'action="([^"]+)"><button[^>]*>Buy Now', item)
    assert buy is not None
    assert "<pre>0.75</pre>" in request(server, buy[1], form="")[1]


def test_fixed_sessions_name_a_goal_and_others_draw_one_by_weight(server: ShopServer) -> None:
    assert WANTED.instruction in request(server, "/fixed_0")[1]
    assert "a mug &lt;or&gt; a cup &amp; no &#x27;lamp&#x27;" in request(server, "/my_fixed_1")[1]
    drawn = ["a mug" in request(server, f"/visitor{number}")[1] for number in range(60)]
    assert 35 <= sum(drawn) <= 55  # a weight of 3 in 4
    assert drawn == ["a mug" in request(server, f"/visitor{number}")[1] for number in range(60)]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/fixed_2", "no goal &#x27;2&#x27;: fixed_&lt;n&gt; takes n from 0 to 1"),
        ("/fixed_-1", "no goal &#x27;-1&#x27;"),
        ("/fixed_", "no goal"),
        ("/..%2F..%2Fetc%2Fpasswd", "a session&#x27;s name has"),
        ("/../../etc/passwd", "no page has the path"),
        ("/%3Cscript%3E", "found &#x27;&lt;script&gt;&#x27;"),
        ("/item_page/s/B0NOTHING0/lamp/1/%7B%7D", "no product &#x27;B0NOTHING0&#x27;"),
        ("/item_sub_page/s/B0LUMO0001/lamp/1/Recipes/%7B%7D", "no sub-page"),
        ("/search_results/s/lamp/first", "whole number"),
        ("/done/s/B0LUMO0001/black", "dictionary of strings"),
        ("/static/style.css", "no page has the path"),
    ],
)
def test_a_page_that_does_not_exist_gets_a_404_that_says_why(server: ShopServer, path: str, message: str) -> None:
    status, html, _ = request(server, path)
    assert (status, message in html, "<script" in html) == (404, True, False), html


def test_text_from_outside_is_escaped(server: ShopServer) -> None:
    evil = "<script>alert('x')</script>\"'"
    for place in (
        Place("results", (evil,)),
        Place("item", (evil,), asin=LUMO.asin, options={evil: evil}),
        Place("sub", (evil,), asin=ODD.asin, tab="Description", options={evil: evil}),
        Place("done", asin=LUMO.asin, options={evil: evil}),
    ):
        status, html, _ = request(server, to_path("fixed_0", place))
        assert (status, "<script" in html, "alert('x')" in html) == (200, False, False), place


def test_a_form_too_large_is_refused(server: ShopServer) -> None:
    assert request(server, "/fixed_0", form="search_query=" + "x" * 70000)[0] == 413


def test_many_clients_at_once_do_not_mix(server: ShopServer) -> None:
    def buy(number: int) -> Observation:
        shop = RemoteShop(server.url, PATIENT)
        shop.reset(task(number % 2))
        for action in ("search[lamp]", "click[B0LUMO0001]", "click[black]" if number % 4 else "think[no]"):
            shop.step(action)
        return shop.step("click[Buy Now]")

    with ThreadPoolExecutor(8) as pool:
        rewards = [seen.reward for seen in pool.map(buy, range(24))]
    assert rewards == [0.5, 0.0, 0.75, 0.0] * 6


def test_a_shop_without_goals_or_without_a_goals_product_does_not_open() -> None:
    with pytest.raises(ValueError, match="at least one goal"):
        serve(LittleShop(), [])
    with pytest.raises(PageError, match="no product 'B0LUMO0001'"):
        serve(LittleShop([NOOR]), GOALS)


# The adapter, when the network does not behave


Reply = tuple[int, str] | None  # a status and a page, or a connection cut off


@contextmanager
def scripted(replies: list[Reply], server: ShopServer) -> Iterator[str]:
    """A site in front of the shop that first gives these replies; afterwards it passes requests on."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            path = self.rfile.readline().split()[1].decode()
            while self.rfile.readline().strip():
                pass
            reply = replies.pop(0) if replies else request(server, path)[:2]
            if reply is not None:
                body = reply[1].encode()
                self.wfile.write(f"HTTP/1.1 {reply[0]} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as site:
        thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{site.server_address[1]}"
        site.shutdown()
        thread.join()


@pytest.mark.parametrize("failure", [(500, "down"), (503, ""), None])
def test_a_passing_failure_is_retried(server: ShopServer, failure: Reply) -> None:
    replies: list[Reply] = [failure, failure]
    with scripted(replies, server) as url:
        shop = RemoteShop(url, PATIENT, retries=2)
        shop.reset(task())
        assert replies == []
        replies.append(failure)
        assert "Page 1 (Total results: 12)" in shop.step("search[lamp]").text


@pytest.mark.parametrize("failure", [(500, "down"), None])
def test_a_lasting_failure_is_the_environments(server: ShopServer, failure: Reply) -> None:
    replies: list[Reply] = []
    with scripted(replies, server) as url:
        shop = RemoteShop(url, PATIENT, retries=2)
        shop.reset(task())
        replies += [failure] * 3
        with pytest.raises(EnvironmentFault, match="search_results/fixed_0/lamp/1: no page after 3 attempts"):
            shop.step("search[lamp]")
        assert replies == []


def test_pauses_between_attempts_double(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.1)
    monkeypatch.setattr(time, "sleep", pauses.append)
    with serve(LittleShop(), GOALS) as closed:
        url = closed.url
    with pytest.raises(EnvironmentFault, match="no page after 4 attempts"):
        RemoteShop(url, PATIENT, retries=3).reset(task())
    assert pauses == [0.1, 0.2, 0.4]


def test_a_refusal_is_not_retried(server: ShopServer) -> None:
    replies: list[Reply] = [(404, "no"), (500, "never asked for")]
    with scripted(replies, server) as url, pytest.raises(EnvironmentFault, match="it answers 404"):
        RemoteShop(url, PATIENT).reset(task())
    assert replies == [(500, "never asked for")]


def test_a_server_that_dies_in_the_middle_is_the_environments_failure() -> None:
    running = serve(LittleShop(), GOALS)
    shop = RemoteShop(running.url, timeout=PATIENT, retries=1)
    shop.reset(task())
    shop.step("search[lamp]")
    running.close()
    with pytest.raises(EnvironmentFault, match=r"item_page/fixed_0/B0LUMO0001.*no page after 2 attempts.*refused"):
        shop.step("click[B0LUMO0001]")


def test_a_server_that_never_answers_times_out() -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as silent:
        url = f"http://127.0.0.1:{silent.server_address[1]}"  # accepts connections, and nobody reads them
        with pytest.raises(EnvironmentFault, match=r"no page after 1 attempts \(TimeoutError"):
            RemoteShop(url, timeout=0.05, retries=0).reset(task())


def test_another_goal_on_the_site_is_noticed(server: ShopServer) -> None:
    other = WANTED.instruction.replace("30.00", "40.00")
    with pytest.raises(
        EnvironmentFault, match=r"t0: .*another goal in session fixed_0: expected.*40\.00.*found.*30\.00"
    ):
        RemoteShop(server.url, PATIENT).reset(task(instruction=other))
    with pytest.raises(EnvironmentFault, match="t0: its spec must name a session"):
        RemoteShop(server.url, PATIENT).reset(task(session=None))


@pytest.mark.parametrize("html", ["", "<html><body><h1>Welcome</h1></body></html>"])
def test_a_site_that_is_no_shop_is_noticed(server: ShopServer, html: str) -> None:
    with scripted([(200, html)], server) as url, pytest.raises(EnvironmentFault):
        RemoteShop(url, PATIENT).reset(task())


def test_a_done_page_without_a_score_is_noticed(server: ShopServer) -> None:
    replies: list[Reply] = []
    with scripted(replies, server) as url:
        shop = RemoteShop(url, PATIENT)
        shop.reset(task())
        for action in ("search[lamp]", "click[B0LUMO0001]"):
            shop.step(action)
        replies.append((200, "<p>Thank you</p>"))
        with pytest.raises(EnvironmentFault, match=r"done/fixed_0/B0LUMO0001.*expected a number after 'Your score"):
            shop.step("click[Buy Now]")


@pytest.mark.parametrize("url", ["127.0.0.1:3000", "ftp://shop", "http://", "http://shop:port"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"port|address such as"):
        RemoteShop(url)


def test_a_step_without_a_task_is_a_programming_error(server: ShopServer) -> None:
    with pytest.raises(RuntimeError, match=r"call reset\(\)"):
        RemoteShop(server.url, PATIENT).step("search[lamp]")


def test_strings_are_read_by_the_element_they_stand_in() -> None:
    html = (
        "<!DOCTYPE html><html><head><title>Shop</title><style>a{}</style></head>\n<body><!-- not this -->\n"
        '<h4 class="x">B &amp; C</h5><br>\n<input value="v"><label>red</label></h4><button class="btn"> go </button>'
        '<a class="product-link" href="/x">B01</a><a class="product-link wide">no link</a> <pre>1.0</pre>'
        "<script>if (a < b) {}</script></body></html>\n"
    )
    assert read_nodes(html) == (
        Node("text", "B & C"),
        Node("option", "red", "B & C"),
        Node("button", " go "),
        Node("link", "B01"),
        Node("text", "no link"),
        Node("text", " "),
        Node("text", "1.0"),
    )
