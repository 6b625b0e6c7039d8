"""WebShop behind the environment protocol: what a task's spec must hold, and whose failure is whose."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from little_shop import SHELF, WANTED

from stages.envs.base import EnvironmentFault, Task
from stages.envs.webshop.catalogue import write_catalogue
from stages.envs.webshop.environment import WebShopEnvironment, read_catalogue, read_spec


@pytest.fixture(scope="module")
def panels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("panels")


@pytest.fixture(scope="module")
def task(panels: Path) -> Task:
    sha256 = write_catalogue(panels / "catalogue.parquet", SHELF)
    spec = {
        "asin": WANTED.asin,
        "instruction": WANTED.instruction,
        "attributes": list(WANTED.attributes),
        "options": ["black", "large"],
        "option_groups": [],
        "cap": WANTED.cap,
        "catalogue": "catalogue.parquet",
        "catalogue_sha256": sha256,
        "view": "papers",
        "dialect": "client",
    }
    return Task("webshop-1", "webshop", "dev", "garden", WANTED.instruction, spec)


def with_spec(task: Task, **fields: Any) -> Task:
    return replace(task, spec={**task.spec, **fields})


def test_an_episode_from_the_search_to_the_purchase(panels: Path, task: Task) -> None:
    environment = WebShopEnvironment(panels)
    seen = environment.reset(task)
    assert (seen.text, seen.admissible) == (
        f"\nWebShop \nInstruction:  \n{WANTED.instruction} \n[Search] ",
        ("search[<words>]",),
    )
    assert (seen.reward, seen.done, seen.valid) == (0.0, False, True)
    seen = environment.step("search[lumo]")
    assert "click[B0LUMO0001]" in seen.admissible
    seen = environment.step("click[Buy Now]")
    assert (seen.text, seen.valid, seen.done) == ("Invalid action!", False, False)
    for action in ("click[B0LUMO0001]", "click[black]"):
        assert environment.step(action).valid
    seen = environment.step("click[Buy Now]")
    assert (seen.text, seen.reward, seen.done) == ("Your score (min 0.0, max 1.0): 0.75", 0.75, True)
    assert seen.admissible == ()


def test_a_purchase_says_what_its_reward_is_made_of(panels: Path, task: Task) -> None:
    environment = WebShopEnvironment(panels)
    assert environment.reset(task).parts == {}
    for action in ("search[lumo]", "click[B0LUMO0001]"):
        assert environment.step(action).parts == {}
    parts = environment.step("click[Buy Now]").parts
    assert parts["reward"] == 0.5  # attribute and price of four things wanted; both options missed
    found = [parts[name] for name in ("attributes_met", "options_met", "options_wanted", "price_met")]
    assert found == [1.0, 0.0, 2.0, 1.0]


def test_view_and_dialect_are_the_tasks(panels: Path, task: Task) -> None:
    environment = WebShopEnvironment(panels)
    assert environment.reset(with_spec(task, view="text", dialect="text")).text == (
        f"WebShop [SEP] Instruction: [SEP] {WANTED.instruction} [SEP] Search"
    )
    assert environment.step("click[nothing]").text.startswith("WebShop [SEP]")


def test_a_synthetic_goal_pairs_its_options_with_their_groups(task: Task) -> None:
    assert read_spec(task).goal.options == ("black", "large")
    paired = read_spec(with_spec(task, option_groups=["color", "size"])).goal
    assert paired.options == (("color", "black"), ("size", "large"))
    assert read_spec(with_spec(task, options=[])).goal.options == ()


def test_environments_share_one_catalogue(panels: Path, task: Task) -> None:
    for _ in range(3):
        WebShopEnvironment(panels).reset(task)
    path, sha256 = panels / task.spec["catalogue"], task.spec["catalogue_sha256"]
    assert read_catalogue(path, sha256) is read_catalogue(path, sha256)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"catalogue": "gone.parquet"}, r"gone\.parquet: the catalogue can't be read.*dvc repro panels"),
        (
            {"catalogue_sha256": "0" * 64},
            r"catalogue\.parquet: not the catalogue.*expected sha256 000.*found.*dvc checkout",
        ),
        ({"asin": "B0NOTHING0"}, r"webshop-1: the product.*no product 'B0NOTHING0' in this catalogue of 14"),
        ({"option_groups": ["color"]}, "webshop-1: option_groups.*found 1 groups for 2 options"),
        ({"view": "html"}, "webshop-1: its spec.*view: Input should be 'text', 'text_rich' or 'papers'"),
        ({"cap": "cheap", "attributes": None}, "webshop-1: its spec.*attributes: .*cap: "),
    ],
)
def test_a_broken_task_is_the_environments_failure(
    panels: Path, task: Task, fields: dict[str, Any], message: str
) -> None:
    environment = WebShopEnvironment(panels)
    with pytest.raises(EnvironmentFault, match=message):
        environment.reset(with_spec(task, **fields))
    with pytest.raises(RuntimeError, match=r"call reset\(\)"):
        environment.step("search[lamp]")


def test_a_missing_key_is_named(panels: Path, task: Task) -> None:
    spec = {key: value for key, value in task.spec.items() if key != "dialect"}
    with pytest.raises(EnvironmentFault, match=r"webshop-1: its spec.*dialect: "):
        WebShopEnvironment(panels).reset(replace(task, spec=spec))


def test_a_file_that_is_no_catalogue_is_the_environments_failure(panels: Path, task: Task) -> None:
    (panels / "text.parquet").write_bytes(b"hello")
    sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    with pytest.raises(EnvironmentFault, match=r"text\.parquet: can't be read"):
        WebShopEnvironment(panels).reset(with_spec(task, catalogue="text.parquet", catalogue_sha256=sha256))
