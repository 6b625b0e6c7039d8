"""A running WebShop site, ours or the official one, behind the project's environment protocol.

The agent sees what it would see in this process in the `client` dialect and the `papers` view: the same session walks the
same places, only the pages come over HTTP.
"""

from __future__ import annotations

import http.client
import time
from html.parser import HTMLParser
from urllib.parse import urlsplit

from stages.envs.base import EnvironmentFault, Observation, Task
from stages.envs.webshop.environment import observe
from stages.envs.webshop.pages import SCORE_LABEL, Node, Page, Place, to_path
from stages.envs.webshop.sessions import ClientSession

FIRST_PAUSE = 0.1  # seconds before the first retry; each further pause is twice as long

_VOID = frozenset(
    ["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"]
)
_INVISIBLE = frozenset(["", "style", "script", "head", "title", "meta"])
_SPACES = " \t\n\r\f"
_INSTRUCTION = "Instruction:"


class RemoteShop:
    """Plays tasks on a WebShop site. A task's spec names the site's `session` (`fixed_<n>` for the site's goal n) and the
    `instruction` expected there: the official server draws its price caps anew at each start."""

    def __init__(self, url: str, timeout: float = 10.0, retries: int = 3) -> None:
        """`timeout` is in seconds, for each answer; `retries` counts the attempts after a failed one. Raises ValueError
        for an address that is not http or https."""
        self._http = _Http(url, timeout, retries)
        self._session: ClientSession | None = None

    def instruction(self, session: str) -> str:
        """The goal that the site has in a session. Raises EnvironmentFault if the site is down, or has none there."""
        texts = [
            node.text.strip() for node in RemoteSite(self._http, session).open(Place()).nodes if node.kind == "text"
        ]
        if _INSTRUCTION not in texts[:-1]:
            raise EnvironmentFault(f"{self._http.url} shows no instruction in session {session}, but {texts!r}")
        return texts[texts.index(_INSTRUCTION) + 1]

    def reset(self, task: Task) -> Observation:
        """Open the task's session. Raises EnvironmentFault if the site is down, or has another goal there."""
        self._session = None
        name, instruction = task.spec.get("session"), task.spec.get("instruction")
        if not isinstance(name, str) or not isinstance(instruction, str):
            raise EnvironmentFault(f"task {task.task_id}: its spec must name a session and an instruction, as strings")
        session = ClientSession(RemoteSite(self._http, name), "papers")
        found = [node.text for node in session.page.nodes if node.kind == "text"]
        if instruction.strip() not in (text.strip() for text in found):
            raise EnvironmentFault(
                f"task {task.task_id}: {self._http.url} has another goal in session {name}: expected the instruction "
                f"{instruction!r}, found {found!r}. The server must hold the goals the panel was made with"
            )
        self._session = session
        return observe(session)

    def step(self, action: str) -> Observation:
        """Carry out one action. Raises EnvironmentFault if the site stops answering, RuntimeError if there was no successful
        reset before."""
        if self._session is None:
            raise RuntimeError("no task is running: call reset() before step()")
        return observe(self._session, self._session.step(action))


class RemoteSite:
    """One session's pages on a site."""

    def __init__(self, site: _Http, session: str) -> None:
        self._site, self._session = site, session

    def open(self, place: Place) -> Page:
        path = to_path(self._session, place)
        nodes = read_nodes(self._site.get(path))
        if not nodes:
            raise EnvironmentFault(f"{self._site.url}{path}: the page is empty; is this a WebShop site?")
        return Page(place, nodes, self._reward(nodes, path) if place.page == "done" else 0.0)

    def _reward(self, nodes: tuple[Node, ...], path: str) -> float:
        texts = [node.text for node in nodes]
        try:
            return float(texts[texts.index(SCORE_LABEL) + 1])
        except (ValueError, IndexError):
            raise EnvironmentFault(
                f"{self._site.url}{path}: expected a number after {SCORE_LABEL!r}, found {texts!r}"
            ) from None


class _Http:
    """GET with time-outs, and bounded retries where the connection or the server fails."""

    def __init__(self, url: str, timeout: float, retries: int) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"a WebShop site has an address such as http://127.0.0.1:3000, found {url!r}")
        self.url = url.rstrip("/")
        self._host, self._port, self._prefix = parts.hostname, parts.port, parts.path.rstrip("/")
        self._connection = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._timeout, self._retries = timeout, retries

    def get(self, path: str) -> str:
        """The page at a quoted path. Raises EnvironmentFault when the site refuses it or stays out of reach."""
        problem = ""
        for attempt in range(self._retries + 1):
            if attempt:
                time.sleep(FIRST_PAUSE * 2 ** (attempt - 1))
            try:
                status, text = self._get_once(path)
            except (OSError, http.client.HTTPException) as error:
                problem = f"{type(error).__name__}: {error}"
            else:
                if status == 200:
                    return text
                problem = f"it answers {status}"
                if status < 500:
                    raise EnvironmentFault(f"{self.url}{path}: {problem}; is this a WebShop site?")
        raise EnvironmentFault(f"{self.url}{path}: no page after {self._retries + 1} attempts ({problem})")

    def _get_once(self, path: str) -> tuple[int, str]:
        connection = self._connection(self._host, self._port, timeout=self._timeout)
        try:
            connection.request("GET", self._prefix + path, headers={"Connection": "close"})
            response = connection.getresponse()
            return response.status, response.read().decode("utf-8", errors="replace")
        finally:
            connection.close()


def read_nodes(html: str) -> tuple[Node, ...]:
    """The visible strings of a page in order, as the papers' clients take them: by the element each stands in."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    reader.flush()
    return tuple(reader.nodes)


class _Reader(HTMLParser):
    """Builds no tree: the open elements are all it takes to know where a string stands."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.nodes: list[Node] = []
        self._open: list[tuple[str, str]] = [("", "")]
        self._text = ""
        self._group = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.flush()
        if tag not in _VOID:
            self._open.append((tag, dict(attrs).get("class") or ""))

    def handle_endtag(self, tag: str) -> None:
        """Close the element and all that was left open in it; the official pages have end tags that match nothing."""
        self.flush()
        names = [name for name, _ in self._open]
        if tag in names:
            del self._open[len(names) - 1 - names[::-1].index(tag) :]

    def handle_data(self, data: str) -> None:
        self._text += data

    def handle_comment(self, data: str) -> None:
        self.flush()

    def flush(self) -> None:
        """Take in the string that ends here. Line breaks between elements are no string."""
        text, self._text = self._text, ""
        tag, kind = self._open[-1]
        if tag in _INVISIBLE or (not text.strip(_SPACES) and (not text or "\n" in text)):
            return
        if tag == "button":
            self.nodes.append(Node("button", text))
        elif tag == "label":
            self.nodes.append(Node("option", text, self._group))
        elif kind == "product-link":
            self.nodes.append(Node("link", text))
        else:
            self.nodes.append(Node("text", text))
            if text.strip():
                self._group = text
