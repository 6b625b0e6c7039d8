"""A real browser for the pages that people look at: headless Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Page, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_QUIET = ("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync")
_HERE = ("http://127.0.0.1", "http://localhost", "file:", "data:", "blob:", "about:")


@contextmanager
def browse(width: int = 1500, height: int = 950, known: tuple[str, ...] = (), **options: object) -> Iterator[Page]:
    """A page of a new browser; `options` are a Playwright context's. Afterwards fails on any console error but those that hold a `known`
    text (in the address they came from, or in what they say), and on any request that left the machine, which is never let through.

    Without a browser the test is skipped, under CI it fails.
    """
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        missing = f"none of {', '.join(_NAMES)} is installed (Debian: apt-get install chromium)"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    wrong: list[str] = []

    def tell(text: str) -> None:
        if not any(part in text for part in known):
            wrong.append(text)

    with sync_playwright() as playwright:
        # Without its sandbox, which does not start for root, as in most containers.
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", *_QUIET])
        context = browser.new_context(viewport={"width": width, "height": height}, **options)  # type: ignore[arg-type]
        context.route(
            lambda url: not url.startswith(_HERE), lambda route: (wrong.append(route.request.url), route.abort())
        )
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on(
            "console",
            lambda said: tell(f"{said.location.get('url', '')} {said.text}") if said.type == "error" else None,
        )
        page.on("pageerror", lambda error: tell(str(error)))
        yield page
        browser.close()
    assert not wrong, wrong
