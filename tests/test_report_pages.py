"""The report in a real browser, opened from the disk: what a reader sees first, and the episode browser."""

from __future__ import annotations

import dataclasses
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from browser import browse
from fake_study import broken, run
from made_report import BANK, EVIL, HINTS, funnel, hostile, known, system, whole_study, write_study
from playwright.sync_api import Page, expect
from structure import ROOT

from stages import report
from stages.reporting import pages
from stages.reporting.cells import CellReport

SHOWN_EVIL = EVIL.replace("\x1b", "\N{REPLACEMENT CHARACTER}")
SCREENS = [
    pytest.param({"width": width, "height": height, "color_scheme": scheme}, id=f"{width}-{scheme}")
    for width, height in ((390, 844), (1280, 800))
    for scheme in ("light", "dark")
]


def made(root: Path, *study: Any, **texts: Any) -> str:
    """The address of a report that was written below `root`; arguments as of `write_study`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        write_study(root, *study, **texts)
        report.run()
    return (root / "report").as_uri()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of a whole small study."""
    return made(tmp_path_factory.mktemp("study"), whole_study(), [funnel()])


def listed(page: Page) -> list[str]:
    """Ids of the tasks or lessons in the list."""
    found: list[str] = page.locator("#list a").evaluate_all("links => links.map(link => link.dataset.id)")
    return found


def overflow(page: Page) -> int:
    """Pixels by which the page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


@pytest.mark.parametrize("screen", SCREENS)
def test_pages_fit_their_screen_with_all_details_open(site: str, screen: dict[str, Any]) -> None:
    with browse(**screen) as page:
        for address in ("index.html", "episodes.html", "episodes.html#set=alfworld_react.train&view=lessons"):
            page.goto(f"{site}/{address}")
            page.wait_for_function("!document.getElementById('list') || document.querySelector('#list a')")
            page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true })")
            assert overflow(page) <= 0, address
            cut = "parts => parts.filter(part => part.scrollWidth > part.clientWidth + 1).map(part => part.innerText)"
            assert page.locator(".table").evaluate_all(cut) == []
        ink, paper = page.evaluate(
            "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
        )
        dark = screen["color_scheme"] == "dark"
        assert (sum(rgb(paper)) < sum(rgb(ink))) == dark


def rgb(colour: str) -> list[int]:
    return [int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]


def test_the_first_screen_answers(site: str) -> None:
    with browse(1280, 800) as page:
        page.goto(f"{site}/index.html")
        for said in (
            "In part: better than students of own successes",
            "+50.0",
            "0.031",
            "Tokens an episode: distilled",
            "distilled 6/6",
        ):
            box = page.get_by_text(said).first.bounding_box()
            assert box and box["y"] + box["height"] <= 800, said
        page.get_by_role("link", name="rag solves, base fails: 6").click()
        expect(page.locator("#count")).to_have_text("6 of 12")


def test_filters_leave_what_they_say_and_an_address_brings_them_back(site: str) -> None:
    with browse() as page:
        page.goto(f"{site}/episodes.html")
        expect(page.locator("#count")).to_have_text("12 of 12")
        page.get_by_role("button", name="rag solves, base fails").click()
        expect(page.locator("#count")).to_have_text("6 of 12")
        assert listed(page) == [f"heat-{i}" for i in range(6)]
        expect(page.locator("#list a").first).to_contain_text("solved: rag, distilled")
        expect(page.locator("#list a").first).to_contain_text("failed: base, sft")
        page.get_by_label("outcome of base").select_option("solved")
        expect(page.locator("#list")).to_contain_text("put it there")
        assert listed(page) == [f"put-{i}" for i in range(6)]
        page.get_by_label("Kind of task").select_option("heat")
        expect(page.locator("#list")).to_contain_text("No task is like that.")
        address = page.url
        page.goto("about:blank")
        page.goto(address)
        expect(page.locator("#count")).to_have_text("0 of 12")
        page.get_by_role("button", name="all").click()
        page.get_by_label("Words of the goal").type("nowhere")
        expect(page.locator("#count")).to_have_text("0 of 12")


def test_an_episode_shows_turns_side_by_side_hints_and_where_they_part(site: str) -> None:
    with browse() as page:
        page.goto(f"{site}/episodes.html#set=alfworld_react.test&id=heat-2")
        expect(page.locator("#parting")).to_have_text("They part at turn 2.")
        heads = page.locator(".turns thead th").all_inner_texts()
        assert [head.split("\n")[0] for head in heads] == [
            *("Turn", "base agent", "with hints (rag)", "own successes (sft)", "distilled")
        ]
        assert "✗ failed" in heads[1] and "✓ solved" in heads[2]
        parting = page.locator(".turns .parting")
        expect(parting).to_contain_text("they part")
        assert "refused: Nothing happens." in parting.inner_text() and "> heat" in parting.inner_text()
        expect(parting).to_be_in_viewport()
        expect(page.locator(".hints")).to_have_text("with hints (rag)Heat it. (from 2 failures)")
        for name in ("rag", "distilled"):
            page.locator(f'[name=show][value="{name}"]').uncheck()
        expect(page.locator("#parting")).to_have_text("They take the same actions.")
        assert "show=base%2Csft" in page.url
        assert page.locator(".turns thead th").count() == 3


def test_the_keyboard_walks_the_list_and_fields_keep_their_keys(site: str) -> None:
    with browse() as page:
        page.goto(f"{site}/episodes.html")
        expect(page.locator("#list a[aria-current]")).to_have_attribute("data-id", "put-0")
        for key, place in (
            ("j", "put-1"),
            ("ArrowDown", "put-2"),
            ("k", "put-1"),
            ("ArrowUp", "put-0"),
            ("k", "put-0"),
        ):
            page.keyboard.press(key)
            expect(page.locator("#list a[aria-current]")).to_have_attribute("data-id", place)
        page.get_by_label("Words of the goal").focus()
        page.keyboard.type("put j")
        expect(page.get_by_label("Words of the goal")).to_have_value("put j")
        expect(page.locator("#count")).to_have_text("0 of 12")
        page.get_by_label("Words of the goal").fill("")
        expect(page.locator("#count")).to_have_text("12 of 12")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.name") == "kind"
        page.locator("#list a").nth(3).focus()
        page.keyboard.press("Enter")
        expect(page.locator("#list a[aria-current]")).to_have_attribute("data-id", "put-3")
        assert page.evaluate("document.activeElement.dataset.id") == "put-3"


def test_the_way_leads_back_from_a_lesson_to_the_failure(site: str) -> None:
    with browse() as page:
        page.goto(f"{site}/index.html")
        page.get_by_role("link", name="from a lesson back to the failure").click()
        page.get_by_label("Arm").select_option("distilled")
        page.get_by_label("Kind of task").select_option("heat")
        expect(page.locator("#count")).to_have_text("6 of 13")
        steps = page.locator(".steps > li")
        expect(steps.nth(0)).to_contain_text("It trained distilled_s0. 50 tokens, 20 of them trained")
        expect(steps.nth(1)).to_contain_text("✓ solved: 2 turns. go > heat")
        expect(steps.nth(2)).to_contain_text("from 2 failures")
        expect(steps.nth(2)).to_contain_text("Rule unused_action saw: evidence")
        steps.nth(2).get_by_role("link", name="put it there").first.click()
        expect(page.locator(".turns thead")).to_contain_text("teacher, with hints")
        expect(page.locator("#list a[aria-current]")).to_have_attribute("data-id", "heat-0")
        expect(page.locator(".turns thead th").nth(1)).to_contain_text("failed")


def test_markup_and_escapes_stay_text(tmp_path: Path) -> None:
    hints = [dataclasses.replace(hint, text=EVIL, evidence=EVIL) for hint in HINTS]
    bank = [dataclasses.replace(entry, text=EVIL) for entry in BANK]
    site = made(tmp_path, [hostile("base"), hostile("rag")], [funnel()], hints=hints, bank=bank)
    with browse() as page:
        page.on("dialog", lambda dialog: pytest.fail(dialog.message))
        page.goto(f"{site}/index.html")
        assert SHOWN_EVIL in page.locator("body").evaluate("body => body.textContent")
        page.goto(f"{site}/episodes.html")
        expect(page.locator("main h2")).to_have_text(SHOWN_EVIL)
        for part in (".action", ".seen", ".hints li", "#list a"):
            expect(page.locator(part).first).to_contain_text(SHOWN_EVIL)
        page.goto(f"{site}/episodes.html#set=alfworld_react.train&view=lessons&arm=distilled")
        expect(page.locator(".steps")).to_contain_text(SHOWN_EVIL)
        assert page.locator("main script, main img, aside script, aside img").count() == 0


def test_a_web_host_needs_nothing_but_the_files(site: str) -> None:
    folder = site.removeprefix("file://")
    handler = partial(SimpleHTTPRequestHandler, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        with browse() as page:
            page.goto(f"http://127.0.0.1:{server.server_port}/")
            page.get_by_role("link", name="Episodes side by side").first.click()
            expect(page.locator("#count")).to_have_text("12 of 12")
        server.shutdown()


def test_a_machine_failure_is_no_failure_of_the_agent(tmp_path: Path) -> None:
    first, *others = run("base", known)
    site = made(tmp_path, [[broken(first), *others], system("rag")], [])
    with browse() as page:
        page.goto(f"{site}/episodes.html")
        expect(page.locator("#list a").first).to_contain_text("⚠ machine failure: base")
        expect(page.locator(".turns thead")).to_contain_text("no evidence about the agent")
        page.get_by_label("outcome of base").select_option("failed")
        expect(page.locator("#count")).to_have_text("6 of 12")


def test_a_lost_file_of_episodes_is_named_and_asked_for_again(tmp_path: Path) -> None:
    site = made(tmp_path, whole_study(), [funnel()])
    kept, lost = tmp_path / "kept.js", tmp_path / "report/episodes/alfworld_react.test.js"
    lost.rename(kept)
    with browse(known=("ERR_FILE_NOT_FOUND",)) as page:
        page.goto(f"{site}/episodes.html")
        expect(page.get_by_role("alert")).to_contain_text("episodes/alfworld_react.test.js could not be loaded")
        kept.rename(lost)
        page.goto(f"{site}/episodes.html#set=alfworld_react.train")
        expect(page.locator(".turns thead")).to_contain_text("teacher, with hints")
        page.go_back()
        expect(page.locator(".turns thead")).to_contain_text("distilled")


def test_words_of_the_goal_are_those_of_the_set_that_is_shown(site: str) -> None:
    with browse() as page:
        page.goto(f"{site}/episodes.html")
        expect(page.locator("#count")).to_have_text("12 of 12")
        page.goto(f"{site}/episodes.html#set=alfworld_react.train")
        expect(page.locator(".turns thead")).to_contain_text("teacher, with hints")
        page.get_by_label("Words of the goal").press_sequentially("nowhere")
        expect(page.locator("#count")).to_have_text("0 of 12")
        page.go_back()
        expect(page.locator("#count")).to_have_text("12 of 12")
        expect(page.get_by_label("Words of the goal")).to_have_value("")
        expect(page.get_by_label("Words of the goal")).to_be_focused()


def test_the_committed_report_is_of_the_committed_metrics() -> None:
    """Its text as written anew, and the counts on its pages against those of the contrasts."""
    found = report.read_cells(ROOT / "metrics")
    assert (ROOT / "report/report.md").read_text(encoding="utf-8") == pages.markdown(found)
    with browse(1280, 800) as page:
        for cell in found:
            page.goto(f"{(ROOT / 'report').as_uri()}/episodes.html#set={cell.key}.{cell.systems[0].panel}")
            counts = solved_alone(cell)
            assert len(counts) == 4, "all first looks but the teacher's"
            for said, count in counts.items():
                page.get_by_role("button", name=said).click()
                expect(page.locator("#count")).to_have_text(count)


def solved_alone(cell: CellReport) -> dict[str, str]:
    """By the words of a first look, the tasks it should leave, as the contrasts count them."""
    counts = {}
    for row in cell.contrasts:
        if row.metric == "success":
            counts[row.a, row.b], counts[row.b, row.a] = row.only_a, row.only_b
    tasks = cell.systems[0].n + cell.systems[0].machine_failures
    return {f"{a} solves, {b} fails": f"{counts[a, b]} of {tasks}" for a, b in pages.PRESETS if (a, b) in counts}
