"""benchmarks/purchases.py: what a purchase had of what its goal wanted, counted by panel, system and kind of goal."""

from __future__ import annotations

import json
from pathlib import Path

import common
import fake_study
import purchases
import pytest

from stages.core.records import Episode, Part, write

WHOLE = {"type_factor": 1.0, "attributes_met": 2.0, "attributes_wanted": 2.0, "price_met": 1.0}
WHOLE |= {"options_met": 1.0, "options_wanted": 1.0}


def purchase(system: str, task: str, **changed: float) -> Episode:
    parts = [Part(name, value) for name, value in (WHOLE | changed).items()]
    return fake_study.episode(system, task, "options", not changed, skill="options", stop="done", parts=parts)


def test_each_link_is_counted_among_purchases_and_success_among_goals() -> None:
    episodes = [
        purchase("rag", "g1"),
        purchase("rag", "g2", attributes_met=1.0, options_met=0.0),
        purchase("rag", "g3", type_factor=0.5, price_met=0.0),
        fake_study.episode("rag", "g4", "options", False, skill="options", stop="turn_limit"),
        fake_study.broken(purchase("rag", "g5")),
        purchase("base", "g1", options_met=0.0),
    ]
    rag, base = purchases.links(episodes)
    score = rag.pop("score")
    assert score == pytest.approx(100 * sum(e.reward for e in episodes[:4]) / 4)
    assert list(rag.values()) == ["test", "rag", "options", 4, 3, 2, 2, 2, 2, 1]
    assert base["bought"] == 1 and base["options"] == 0


def test_a_purchase_that_does_not_say_what_it_was_judged_by_is_refused() -> None:
    with pytest.raises(common.Fault, match="a purchase without attributes_met, options_met, price_met, type_factor"):
        purchases.links([fake_study.episode("rag", "put-1", "put", True, stop="done", parts=[])])


def test_what_lies_in_data_is_counted_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["purchases.py", "--out", "kept.json"])
    with pytest.raises(common.Fault, match="no episodes of webshop_act; run `dvc repro` first"):
        purchases.main()
    folders = (
        "rollouts/webshop_act",
        "teacher/webshop_act/rag",
        "evals/webshop_act_sft_s0",
        "evals/webshop_acting_sft_s0",
    )
    for number, folder in enumerate(folders):
        write(Path("data") / folder / "test.parquet", Episode, [purchase(f"s{number}", "g1")])
    purchases.main()
    rows = json.loads(Path("kept.json").read_text(encoding="utf-8"))["webshop_act"]["rows"]
    assert [row["system"] for row in rows] == ["s0", "s1", "s2"]
