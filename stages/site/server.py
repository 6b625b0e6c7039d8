"""A WebShop site: the official routes over this engine, for the papers' clients as they were published, and for browsers.

Each address says all there is to its page, so the server remembers nothing, and any number of clients may use it at once.
The pages' visible strings, buttons, labels and product links come in upstream's order (WebShop, arXiv 2207.01206).
"""

from __future__ import annotations

import json
import logging
import random
import re
import threading
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import accumulate
from socketserver import TCPServer
from types import TracebackType
from urllib.parse import parse_qs

from stages.envs.webshop.pages import (
    SCORE_LABEL,
    LocalSite,
    Node,
    Page,
    PageError,
    Place,
    Stock,
    follow,
    from_path,
    to_path,
)
from stages.envs.webshop.records import Goal

MAX_FORM = 65536  # bytes of a posted search
IDLE_SECONDS = 30.0  # after which a silent connection is dropped

_SESSION = re.compile(r"[\w.~-]{1,128}", re.ASCII)
_HEAD = 2  # a page's first nodes, except at the start: "Instruction:" and the goal
_log = logging.getLogger(__name__)


class ShopServer:
    """A running site; `url` is where it answers. Stops at `close()`, or at the end of a `with` block."""

    def __init__(self, httpd: ThreadingHTTPServer) -> None:
        self._httpd = httpd
        self.url = f"http://{httpd.server_name}:{httpd.server_port}"
        self._thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering and give the port back."""
        self._httpd.shutdown()
        self._httpd.server_close()
        self._thread.join()

    def __enter__(self) -> ShopServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def serve(catalogue: Stock, goals: Sequence[Goal], host: str = "127.0.0.1", port: int = 0) -> ShopServer:
    """Start a site; port 0 takes any free one.

    As upstream, the session `fixed_<n>` shops for goal n, and any other for a goal drawn by weight; here the session's name
    is the draw's seed. Raises ValueError without goals, PageError if a goal's product is missing, OSError for a port taken.
    """
    return ShopServer(_Server((host, port), _Shops(catalogue, goals)))


class _Shops:
    """The site of each session's goal."""

    def __init__(self, stock: Stock, goals: Sequence[Goal]) -> None:
        if not goals:
            raise ValueError("a shop needs at least one goal, found none")
        self._sites = [LocalSite(stock, goal) for goal in goals]
        self._weights = list(accumulate(goal.weight for goal in goals))

    def open(self, session: str, place: Place) -> Page:
        """Raises PageError for a session's name that can't be, a goal's number that is none, or a page that is none."""
        if not _SESSION.fullmatch(session):
            raise PageError(f"a session's name has 1 to 128 letters, digits or . _ ~ -, found {session!r}")
        if "fixed" not in session:
            return random.Random(session).choices(self._sites, cum_weights=self._weights)[0].open(place)
        number = session.split("_")[-1]
        if not number.isdecimal() or int(number) >= len(self._sites):
            raise PageError(f"there is no goal {number!r}: fixed_<n> takes n from 0 to {len(self._sites) - 1}")
        return self._sites[int(number)].open(place)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], shops: _Shops) -> None:
        self.shops = shops
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer's own would look the host's name up, which can take seconds
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._answer(form={})

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > MAX_FORM:
            self.close_connection = True
            self._send(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _error_page(f"a form has at most {MAX_FORM} bytes"))
            return
        body = self.rfile.read(int(length)).decode("utf-8", errors="replace")
        self._answer(parse_qs(body, keep_blank_values=True))

    def _answer(self, form: dict[str, list[str]]) -> None:
        path = self.path.partition("?")[0]
        try:
            if path == "/":
                self._redirect("/shopper")
                return
            session, place = from_path(path)
            page = self.server.shops.open(session, place)
            if place.page == "start" and "search_query" in form:
                words = form["search_query"][0].lower().split(" ")
                self._redirect(to_path(session, Place("results", tuple(words))))
                return
            self._send(HTTPStatus.OK, to_html(session, page))
        except PageError as error:
            self._send(HTTPStatus.NOT_FOUND, _error_page(str(error)))
        except Exception:
            _log.exception("%s failed", path)
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, _error_page("the shop failed; see its log"))

    def _send(self, status: HTTPStatus, html: str) -> None:
        content = html.encode("utf-8", errors="replace")
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _redirect(self, path: str) -> None:
        self.send_response(HTTPStatus.FOUND)
        self.send_header("Location", path)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        _log.debug(format, *args)


def to_html(session: str, page: Page) -> str:
    """A page as HTML. A client that takes the visible strings out of it finds the page's nodes again, but for the done page,
    which shows the reward's parts in place of upstream's empty fields."""
    place, nodes = page.place, page.nodes
    if place.page == "done":
        return _document(_receipt(page))
    if place.page == "start":
        title, label, goal, search = (escape(node.text) for node in nodes)
        form = f'<input id="search_input" type="text" name="search_query" required>{_button(search)}'
        blocks = [f"<h2>{title}</h2>", _instruction(label, goal), _form(to_path(session, place), form)]
        return _document(blocks)
    label, goal = (escape(node.text) for node in nodes[:_HEAD])
    blocks = [_instruction(label, goal)]
    blocks += [_block(node, number, session, place) for number, node in enumerate(nodes[_HEAD:])]
    return _document(blocks)


def _block(node: Node, number: int, session: str, place: Place) -> str:
    text = escape(node.text)
    if node.kind == "text":
        return f"<p>{text}</p>"
    path = escape(to_path(session, follow(place, node)))
    if node.kind == "button":
        return _form(path, _button(text))
    if node.kind == "link":
        return f'<h4><a class="product-link" href="{path}">{text}</a></h4>'
    checked = " checked" if place.options.get(node.group) == node.text else ""
    radio = f'<input type="radio" id="option_{number}" name="{escape(node.group)}" value="{text}"{checked}'
    return f'{radio} data-url="{path}" onclick="location.href=this.dataset.url"><label for="option_{number}">{text}</label>'


def _receipt(page: Page) -> list[str]:
    bought = {"asin": page.place.asin, "options": json.dumps(dict(page.place.options), sort_keys=True)}
    parts = asdict(page.score) if page.score else {}
    return [
        "<h1>Thank you for shopping with us!</h1>",
        *(f'<h4 id="{name}">{name}<pre>{escape(value)}</pre></h4>' for name, value in bought.items()),
        f'<h3 id="reward">{SCORE_LABEL}<pre>{page.reward}</pre></h3>',
        f'<h4>Reward Details<div id="reward_info"><pre>{escape(json.dumps(parts))}</pre></div></h4>',
    ]


def _instruction(label: str, goal: str) -> str:
    return f'<div id="instruction-text"><h4>{label}<br>{goal}</h4></div>'


def _form(path: str, content: str) -> str:
    return f'<form method="post" action="{path}">{content}</form>'


def _button(text: str) -> str:
    return f'<button type="submit" class="btn">{text}</button>'


def _error_page(message: str) -> str:
    return _document([f"<h1>No such page</h1><p>{escape(message)}</p>"])


def _document(blocks: Iterable[str]) -> str:
    head = '<head><title>WebShop</title><link rel="icon" href="data:,"></head>'
    return "\n".join(["<!DOCTYPE html>", "<html>", head, "<body>", *blocks, "</body>", "</html>", ""])
