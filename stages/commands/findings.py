"""What the doctor finds: a line each, and how a server is looked at."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from stages.core.sections import Connection
from stages.engines.server import ServerEngine


@dataclass(frozen=True)
class Finding:
    """One line: `ok`, `note` or `fault`, what it is about, and what was found."""

    level: str
    about: str
    text: str


def key_of(server: Connection, about: str) -> Finding:
    """Whether the server's key is set; never the key."""
    state = "is set" if os.environ.get(server.key_variable) else "is not set, as a server without a key wants it"
    return Finding("note", about, f"{server.key_variable} {state}")


def reached(server: Connection, **limits: Any) -> ServerEngine:
    """The server, asked once for what it serves. Raises `EngineFault`."""
    once = server.model_copy(update={"retries": 0})
    return ServerEngine(once, None, slots=1, stop=(), **limits)
