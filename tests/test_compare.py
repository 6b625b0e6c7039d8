"""States of the project beside each other: what git and DVC's cache hold of them, and what is said of it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_study import run as played
from project import commit, run

from stages.commands.main import main
from stages.core.records import Episode, write
from stages.stats.contrasts import contrast_rows
from stages.stats.systems import Study, label, system_row

Solved = Callable[[str, str], bool]
Compare = Callable[..., str]


def never(task: str, category: str) -> bool:
    return False


def puts(task: str, category: str) -> bool:
    return category == "put"


def always(task: str, category: str) -> bool:
    return True


def keep(content: bytes, suffix: str = "") -> str:
    """Put a file into DVC's cache; its hash."""
    md5 = hashlib.md5(content).hexdigest() + suffix
    path = Path(".dvc/cache/files/md5", md5[:2], md5[2:])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return md5


def evaluated(episodes: list[Episode]) -> dict[str, Any]:
    """A system's entry in dvc.lock, its episodes in the cache."""
    write(Path("table.parquet"), Episode, episodes)
    table = keep(Path("table.parquet").read_bytes())
    Path("table.parquet").unlink()
    folder = keep(json.dumps([{"md5": table, "relpath": "test.parquet"}]).encode(), ".dir")
    name = f"alfworld_react_{label(episodes[0].system, episodes[0].seed)}"
    return {"outs": [{"path": f"data/evals/{name}", "md5": folder}]}


def save_state(settings: dict[str, Any], *systems: list[Episode], code: str = "1") -> None:
    """What a run leaves behind: params.yaml, dvc.lock, metrics and the episodes in the cache."""
    study = Study(withheld=("heat",), strength="full", panel_source="generated")
    stages = {f"evaluate@{label(episodes[0].system, episodes[0].seed)}": evaluated(episodes) for episodes in systems}
    hints = {"deps": [{"path": "stages/hinting", "md5": code}], "outs": [{"path": "data/hints", "md5": "h"}]}
    rows = {
        "systems": [system_row(episodes, study, "") for episodes in systems],
        "contrasts": contrast_rows(systems, 200, 3),
    }
    Path("params.yaml").write_text(yaml.safe_dump({"stats": {"bootstrap": 200, "seed": 3}, **settings}))
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {**stages, "hints": hints, "track": {}}}))
    for name, found in rows.items():
        content = {"schema_version": 1, "rows": [dataclasses.asdict(row) for row in found]}
        Path(f"metrics/{name}.json").write_text(json.dumps(content))


def save_experiment(name: str) -> None:
    """Make the workspace an experiment of HEAD, where DVC keeps it, and put HEAD's files back."""
    head = run("git", "rev-parse", "HEAD").strip()
    commit(name)
    run("git", "update-ref", f"refs/exps/{head[:2]}/{head[2:]}/{name}", "HEAD")
    run("git", "reset", "-q", "--hard", head)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of base and rag: HEAD, and experiment k1 in which rag wins everything."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("dvc.yaml").write_text("stages: {}\n")
        Path("metrics").mkdir()
        run("git", "init", "-q")
        run("git", "config", "user.email", "test@example.org")
        run("git", "config", "user.name", "test")
        run("dvc", "init", "-q")
        Path(".gitignore").write_text("/.dvc/cache\n")
        shop = {"panels": {"webshop": {"seed": 7, "sizes": {"test": 60}}}}
        save_state({"hints": {"k": 3, "per": [1, 2]}, **shop}, played("base", puts), played("rag", puts))
        commit("first")
        save_state({"hints": {"k": 1, "per": [1, 2]}}, played("base", puts), played("rag", always), code="2")
        save_experiment("k1")
    return folder


@pytest.fixture
def compare(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Compare:
    """Runs the command in a copy of the study; what it prints, or its error where it ends with 1."""
    shutil.copytree(finished, tmp_path / "study")
    monkeypatch.chdir(tmp_path / "study")
    monkeypatch.setenv("COLUMNS", "100")

    def compared(*names: str, code: int = 0) -> str:
        monkeypatch.setattr("sys.argv", ["stages", "compare", *names])
        assert main() == code
        said = capsys.readouterr()
        return said.err if code else said.out

    return compared


def lines(said: str) -> list[str]:
    """Lines without what fills columns up."""
    return [" ".join(line.split()) for line in said.splitlines()]


def test_experiments_of_head_stand_beside_it_with_figures_settings_stages_and_what_moved(compare: Compare) -> None:
    said = compare()
    assert max(map(len, said.splitlines())) <= 100
    found = lines(said)
    assert "figure HEAD k1" in found
    assert "alfworld_react base success 50.0 % 50.0 %" in found
    assert "alfworld_react rag success 50.0 % 100.0 %" in found
    assert found[found.index("setting that differs HEAD k1") + 1 :][:3] == [
        "hints.k 3 1",
        "panels there \N{EN DASH}",
        "",
    ]
    told = " ".join(found[found.index("k1 against HEAD") :])
    assert "ran anew: evaluate@rag" in told and "ran anew and made the same: hints" in told
    assert "code that differs: stages/hinting" in told
    # Six tasks won and none lost: p = 2 / 2^6 = 0.031; of three figures (success, tokens, withheld) two moved, Holm makes it 0.094.
    assert "rag success: 50.0 % to 100.0 %, +50.0 (" in told
    assert "12 tasks, 6 won and 0 lost, p 0.094: within noise" in told
    assert "0 of 3 figures moved beyond noise" in told
    assert "not moved: alfworld_react (base)" in told


def test_a_change_that_every_task_shows_is_beyond_noise(compare: Compare) -> None:
    save_state({"hints": {"k": 3}}, played("base", never), played("rag", puts))
    assert "rag" not in compare("HEAD").split("against")[1].split("not moved")[0]
    save_state({"hints": {"k": 3}}, played("base", always, retrieve_tokens=500), played("rag", puts))
    told = " ".join(lines(compare("HEAD", "workspace")))
    assert "base tokens: 260 to 760, +500 (+500 to +500); 12 tasks, p 0.030: beyond noise" in told


def test_a_single_name_is_held_against_the_workspace_and_several_against_the_first(compare: Compare) -> None:
    assert "k1 against workspace" in compare("k1")
    commit_id = run("git", "rev-parse", "HEAD").strip()
    said = compare("k1", commit_id, "HEAD")
    assert f"{commit_id} against k1" in said and "HEAD against k1" in said
    assert "-50.0" in said.replace("\N{MINUS SIGN}", "-")


def test_many_states_come_in_several_tables_with_the_first_in_each(compare: Compare) -> None:
    names = [f"try{n}" for n in range(6)]
    for number, name in enumerate(names):
        save_state({"hints": {"k": 3, "seed": number}}, played("base", puts), played("rag", puts))
        save_experiment(name)
    said = compare("HEAD", *names)
    assert max(map(len, said.splitlines())) <= 100
    heads = [line for line in lines(said) if line.startswith("figure")]
    assert heads == ["figure HEAD try0 try1 try2", "figure HEAD try3 try4 try5"]
    assert "no stage ran anew, though settings differ; `dvc repro` runs what they touch" in said


def test_other_panels_are_not_paired(compare: Compare) -> None:
    save_state({}, played("base", puts), played("rag", always, panel_sha256="f" * 64))
    told = " ".join(lines(compare("HEAD", "workspace")))
    assert "alfworld_react (rag): not paired, the test panels are different ones (eeeeeeee and ffffffff)" in told


@pytest.mark.parametrize("second", [puts, never], ids=["equal", "other"])
def test_seeds_that_only_one_state_has_are_named_and_are_not_called_unmoved(compare: Compare, second: Solved) -> None:
    save_state({}, played("base", puts), played("sft", puts))
    commit("one seed")
    save_state({}, played("base", puts), played("sft", second), played("sft", always, seed=1))
    told = " ".join(lines(compare("HEAD", "workspace")))
    said = "alfworld_react (sft): seeds paired: 0 (HEAD has 0; workspace has 0, 1)"
    assert said in told and ("alfworld_react sft success: 50.0 % to 0.0 %" in told) == (second is never)
    assert "not moved: alfworld_react (base) alfworld_react (sft): seeds" in told
    save_state({}, played("base", puts), played("sft", puts, seed=2))
    told = " ".join(lines(compare("HEAD", "workspace")))
    assert "(sft): seeds paired: none (HEAD has 0; workspace has 2)" in told


def test_settings_are_shown_as_they_are_written(compare: Compare) -> None:
    save_state({"[b]": {"k": [None, "a"]}, "stop": "[/b]"}, played("base", puts), played("rag", puts))
    found = lines(compare("HEAD", "workspace"))
    assert "[b] \N{EN DASH} there" in found and 'stop \N{EN DASH} "[/b]"' in found


def test_lost_episodes_are_named_with_what_brings_them(compare: Compare) -> None:
    lock = yaml.safe_load(Path("dvc.lock").read_text())
    lost = lock["stages"]["evaluate@rag"]["outs"][0]["md5"]
    Path(".dvc/cache/files/md5", lost[:2], lost[2:]).unlink()
    told = " ".join(lines(compare("HEAD", "k1")))
    assert "not paired, HEAD's episodes are not in DVC's cache (`dvc fetch --all-commits`)" in told
    told = " ".join(lines(compare("k1")))
    assert "workspace's episodes are not in DVC's cache (`dvc pull`)" in told


def test_a_table_that_cannot_be_read_is_named(compare: Compare) -> None:
    lock = yaml.safe_load(Path("dvc.lock").read_text())
    listing = lock["stages"]["evaluate@rag"]["outs"][0]["md5"]
    md5 = json.loads(Path(".dvc/cache/files/md5", listing[:2], listing[2:]).read_text())[0]["md5"]
    Path(".dvc/cache/files/md5", md5[:2], md5[2:]).write_bytes(b"PAR1 no more")
    told = " ".join(lines(compare("HEAD", "k1")))
    assert "alfworld_react (rag): not paired, " in told and "not a readable Parquet file" in told


def test_what_cannot_be_compared_is_named(compare: Compare) -> None:
    assert "nowhere: no commit, branch, tag or experiment; experiments here: k1" in compare("nowhere", code=1)
    assert "a state is named twice: HEAD HEAD" in compare("HEAD", "HEAD", code=1)
    Path("metrics/systems.json").write_text("[]")
    assert "workspace: metrics/systems.json: not readable (TypeError(" in compare("k1", code=1)
    Path("metrics/systems.json").write_text('{"schema_version": 9, "rows": []}')
    assert "workspace: metrics/systems.json: schema_version 9 found, 1 expected" in compare("k1", code=1)
    Path("metrics/systems.json").write_text('{"schema_version": 1, "rows": [1]}')
    assert "workspace: metrics/systems.json holds no rows (" in compare("k1", code=1)
    Path("metrics/systems.json").write_text('{"schema_version": 1, "rows": [{"env": "alfworld"}]}')
    assert "workspace: metrics/systems.json is of another version of the code, without agent, panel" in compare(
        "k1", code=1
    )
    Path("metrics/systems.json").unlink()
    assert "workspace: has no metrics/systems.json; run `dvc repro metrics` there" in compare("k1", code=1)
    run("git", "checkout", "-q", "metrics")
    Path("params.yaml").write_text("a: [")
    assert "workspace: params.yaml is no readable YAML" in compare("k1", code=1)
    Path("params.yaml").write_text("stats: {bootstrap: many, seed: 3}")
    assert "workspace: params.yaml has stats.bootstrap 'many'; a whole number is expected" in compare("k1", code=1)
    run("git", "reset", "-q", "--hard")
    commit_id = run("git", "rev-parse", "HEAD").strip()
    run("git", "commit", "-q", "--allow-empty", "-m", "later")
    assert "no experiment started from there. Name two states; experiments from other commits: k1" in compare(code=1)
    run("git", "update-ref", f"refs/exps/{'0' * 2}/{'0' * 38}/k1", commit_id)
    assert "k1: 2 experiments have this name" in compare("k1", code=1)
