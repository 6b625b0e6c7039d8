"""Benchmarks: what they count is right, what they compare is comparable, and each of them runs on a tiny model."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import common
import decode
import environment
import fake_study
import hints
import limits
import pytest
import rollout
import scaling
import structured
import torch
import training
from candidates import servers
from flops import Decoder
from flops import decode as decode_pass
from flops import prefill as prefill_flops
from flops import training as training_flops
from structure import ROOT
from transformers import AutoModelForCausalLM

from stages.core.params import Settings, load
from stages.core.records import Episode, Message, read, write
from stages.engines import cpu
from stages.envs.base import Task
from stages.envs.panel import write_panels
from stages.hinting.base import ProbeRecord
from stages.models.conversation import Encoded
from stages.panelling.alfworld.generator import generate_game, write_game
from stages.runner.study import Runner, System

pytest_plugins = ["tiny"]

SMALL = Decoder(layers=2, width=4, heads=2, kv_heads=1, head_dim=2, inner=3, words=10)
# By hand, a layer: query and output 4 x 4 each, key and value 4 x 2 each, three of the MLP 4 x 3 each: 16 + 16 + 8 + 8 + 36 = 84.
# Attention: 2 layers x 2 heads x 2 numbers, times 2 products of 2 operations: 32 for every position that is looked at.
MACHINE = {"gemm_gflops": 2.0, "bandwidth_gbs": 4.0}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits measured badly but at once."""
    monkeypatch.setattr(limits, "best_seconds", lambda call: common.best_seconds(call, 1e-4))
    for name, value in (("SQUARE", 64), ("ROWS", 16), ("READ_BYTES", 2**16)):
        monkeypatch.setattr(limits, name, value)


@pytest.fixture
def project(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with the tiny model as its base and two games in either panel."""
    monkeypatch.chdir(tmp_path)
    base = Path("data/base")
    base.mkdir(parents=True)
    (base / "model").symlink_to(tiny_llama)
    (tiny_llama / "identity.json").write_text(json.dumps({"source": "tiny", "weights_sha256": "ab" * 32}))
    panels: dict[str, list[Task]] = {"train": [], "dev": []}
    rollout.PANELS.mkdir(parents=True)
    for name, tasks in panels.items():
        for index in range(2):
            game = generate_game(3, name, "pick_and_place_simple", index, unseen=name == "dev")
            path = write_game(rollout.PANELS, game)
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            spec = {"game": str(game.path), "sha256": sha256, **game.goal._asdict()}
            tasks.append(Task(f"{name}{index}", "alfworld", name, "put", game.sentence, spec))
    write_panels(rollout.PANELS, "alfworld", "generated", panels)
    return tmp_path


def short_settings() -> Settings:
    """params.yaml with episodes of two turns of a few tokens, in fp32."""
    settings = load(ROOT / "params.yaml")
    engine = settings.engine.model_copy(update={"slots": 2, "max_new_tokens": 6, "context": 1500, "dtype": "float32"})
    runner = settings.runner.model_copy(update={"max_turns": {"alfworld": 2, "webshop": 2}})
    return settings.model_copy(update={"engine": engine, "runner": runner})


def test_weights_are_counted_as_by_hand() -> None:
    assert (SMALL.body, SMALL.head) == (2 * 84, 40)
    # Of rank 3, a layer: inputs and outputs 8 + 6 + 6 + 8 + 7 + 7 + 7 = 49.
    assert SMALL.adapter(3) == 2 * 3 * 49
    assert SMALL.cache(5) == 2 * 2 * 2 * 5


def test_the_counted_weights_are_the_model_s(tiny_llama: Path, tiny_qwen2: Path) -> None:
    for folder in (tiny_llama, tiny_qwen2):
        model = AutoModelForCausalLM.from_pretrained(folder)
        counted = Decoder.of(common.config_of(folder))
        matrices = {name: weight.numel() for name, weight in model.named_parameters() if weight.dim() == 2}
        assert counted.body == sum(size for name, size in matrices.items() if "layers" in name)
        assert counted.head == matrices["lm_head.weight"]


def test_operations_are_counted_as_by_hand() -> None:
    assert SMALL.attention(0, 3) == 32 * (1 + 2 + 3)
    assert SMALL.attention(4, 2) == 32 * (5 + 6)
    assert prefill_flops(SMALL, [(0, 3), (4, 2)]) == 2 * 168 * 5 + 32 * 17 + 2 * 2 * 40
    # Sessions of 5 and 7 positions, in numbers of 2 bytes.
    assert decode_pass(SMALL, [5, 7], 2) == {"weights": (2 * 2 * 208, 2 * 208), "attention": (32 * 12, 2 * 8 * 12)}
    assert training_flops(SMALL, 3, [(3, 1)]) == 4 * 168 * 3 + 6 * 294 * 3 + 4 * 40 + 3 * 32 * 6


def test_shares_are_those_of_the_tighter_limit() -> None:
    short, long = (decode.Turn(s, [decode.Reply(1, "", "length", 3, 3, 9)] * 2) for s in (1.0, 1.0 + 4e-6))
    work, moved = (sum(amounts) for amounts in zip(*decode_pass(SMALL, [4, 4], 4).values(), strict=True))
    facts = decode.decode_facts(SMALL, short, long, passes=2, number_bytes=4, machine=MACHINE)
    assert math.isclose(facts["ms_per_pass"], 2e-3, rel_tol=1e-6)
    assert math.isclose(facts["gemm_ms_per_pass"], 1e3 * work / 2e9)
    assert math.isclose(facts["bandwidth_ms_per_pass"], 1e3 * moved / 4e9)
    assert facts["limited_by"] == "gemm"
    assert math.isclose(facts["share_of_limit"], work / 2e9 / 2e-6, rel_tol=1e-6)
    slow_memory = decode.decode_facts(SMALL, short, long, 2, 4, {**MACHINE, "bandwidth_gbs": 0.1})
    assert slow_memory["limited_by"] == "bandwidth"
    assert math.isclose(slow_memory["share_of_limit"], moved / 1e8 / 2e-6, rel_tol=1e-6)


def test_the_limit_in_sequence_is_each_part_s_own() -> None:
    short, long = (decode.Turn(s, [decode.Reply(1, "", "length", 3, 3, 9)] * 8) for s in (1.0, 1.0 + 4e-6))
    machine = {**MACHINE, "gemm_gflops": 2.0, "bandwidth_gbs": 1.0}
    parts = decode_pass(SMALL, [4] * 8, 4)
    facts = decode.decode_facts(SMALL, short, long, passes=2, number_bytes=4, machine=machine)
    multiplying, reading = parts["weights"][0] / 2e9, parts["attention"][1] / 1e9
    assert math.isclose(facts["share_of_limit_in_sequence"], (multiplying + reading) / 2e-6, rel_tol=1e-6)
    assert facts["share_of_limit_in_sequence"] > facts["share_of_limit"]


def test_a_prefix_that_was_kept_is_no_work_done() -> None:
    whole, half = (decode.Turn(1e-6, [decode.Reply(1, "", "length", 6, computed, 1)]) for computed in (6, 2))
    assert decode.prefill_facts(SMALL, whole, MACHINE)["gflops"] == prefill_flops(SMALL, [(0, 6)]) / 1e3
    assert decode.prefill_facts(SMALL, half, MACHINE)["gflops"] == prefill_flops(SMALL, [(4, 2)]) / 1e3
    assert decode.prefill_facts(SMALL, half, MACHINE)["tokens_per_second"] == 2e6


def test_results_keep_other_sections_and_say_where_they_come_from(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    common.record({"limits": {"gemm_gflops": 123.456789, "bandwidth_gbs": 20.0}}, {"rows": 512}, path)
    common.record({"decode": {"share_of_limit": 0.5}, "prefill": {"share_of_gemm": 0.25}}, {"slots": 2}, path)
    common.record({"decode": {"share_of_limit": 0.625}}, {"slots": 3}, path)
    results = json.loads(path.read_text(encoding="utf-8"))
    assert list(results) == ["schema_version", "machine", "limits", "decode", "prefill"]
    assert results["schema_version"] == 1
    assert (results["limits"]["gemm_gflops"], results["limits"]["settings"]) == (123.5, {"rows": 512})
    assert (results["decode"]["share_of_limit"], results["decode"]["settings"]) == (0.625, {"slots": 3})
    assert results["prefill"]["settings"] == {"slots": 2}
    assert len(results["prefill"]["git_commit"]) == 40
    assert results["machine"]["cores"] >= 1 and results["machine"]["memory_gb"] > 0
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]


@pytest.mark.parametrize("text", ["no JSON", "[]", '{"share": 1}', '{"schema_version": 2}'])
def test_a_file_that_holds_no_results_is_not_overwritten(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"results\.json: expected"):
        common.record({"limits": {}}, {}, path)
    assert path.read_text(encoding="utf-8") == text


def test_a_missing_base_model_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"data/base/model: no model there; run `dvc repro base`"):
        common.base_model()


def test_a_process_of_its_own_has_a_peak_of_its_own() -> None:
    ballast = bytearray(300 * 2**20)
    ballast[:: 2**12] = b"x" * len(ballast[:: 2**12])
    assert common.peak_memory_mb() > 300
    assert common.alone(common.peak_memory_mb) < common.peak_memory_mb() - 200


def test_the_marginal_cost_is_that_of_one_episode_more() -> None:
    sizes = ((32, 40.0, 900), (128, 88.0, 1000), (512, 280.0, 1000))
    runs = [
        {"episodes": n, "seconds": s, "seconds_per_episode": s / n, "peak_memory_mb": memory} for n, s, memory in sizes
    ]
    facts = scaling.marginal(runs)
    assert facts["marginal_seconds_per_episode"] == [0.5, 0.5]
    assert facts["marginal_ratio"] == 1.0
    assert facts["mean_ratio"] == pytest.approx(0.4375)
    assert facts["memory_ratio"] == pytest.approx(10 / 9)


def test_tasks_are_drawn_evenly_and_repeated_under_fresh_ids(project: Path) -> None:
    assert [task.task_id for task in rollout.drawn("train", 1)] == ["train0"]
    assert [task.task_id for task in rollout.drawn("train", 2)] == ["train0", "train1"]
    more = rollout.drawn("train", 5)
    assert len({task.task_id for task in more}) == 5
    assert [task.spec["game"] for task in more[:2]] == [task.spec["game"] for task in more[2:4]]


def test_limits_are_the_best_of_what_was_tried(quick: None, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = Decoder.of(common.config_of(tiny_llama))
    monkeypatch.setattr(limits, "best_seconds", lambda call: (call(), 0.5)[1])
    found = limits.limits(decoder, common.number_format(load(ROOT / "params.yaml").engine))
    assert found["gemm_gflops"] == pytest.approx(2e-9 * max(64**3, 16 * decoder.head) / 0.5)
    assert found["bandwidth_gbs"] == pytest.approx(2 * 2**16 / 1e9 / 0.5)


def test_prefill_and_decode_of_a_tiny_model(quick: None, tiny_llama: Path) -> None:
    engine = load(ROOT / "params.yaml").engine.model_copy(update={"slots": 3, "context": 400})
    sections = decode.measure(tiny_llama, engine, tokens=40, passes=24)
    for name, share in (("prefill", "share_of_gemm"), ("decode", "share_of_limit")):
        assert sections[name][share] > 0
        assert sections[name]["tokens_per_second"] > 0
    # The second prompt holds the first one, its reply of 25 tokens, and is counted up to halfway through its own.
    assert sections["decode"]["context"] > sections["prefill"]["prompt_tokens"] + 25 + 12


def test_a_reply_that_ends_early_spoils_the_measure(tiny_llama: Path) -> None:
    engine = cpu.CpuEngine(
        tiny_llama, None, dtype="float32", slots=1, context=400, max_new_tokens=60, temperature=0.0, stop=("e",)
    )
    with pytest.raises(RuntimeError, match="replies ended by stop before their limit"):
        decode.talk(engine, ["You see a mug 1."])


@pytest.mark.parametrize("stop", [(), ("th", "e"), ("\ng", "\n6")], ids=["none", "within", "across the prompt's end"])
def test_the_baseline_replies_as_our_engine_does(tiny_llama: Path, stop: tuple[str, ...]) -> None:
    from sequential import SequentialEngine

    settings = {"context": 400, "max_new_tokens": 24, "stop": stop}
    baseline = SequentialEngine(tiny_llama, dtype=torch.float32, **settings)
    ours = cpu.CpuEngine(tiny_llama, None, dtype="float32", slots=1, temperature=0.0, **settings)
    assert baseline.name == "transformers-float32"
    seen = []
    for engine in (baseline, ours):
        spoken, replies = [Message("system", "You act.")], []
        session = engine.open(0)
        for said in ("You see a box 1.", "Nothing happens.", "On the desk 1, you see a pen 1."):
            spoken.append(Message("user", said))
            engine.submit(session, spoken)
            [reply] = engine.poll()
            replies.append(reply)
            spoken.append(Message("assistant", reply.text))
        engine.close(session)
        seen.append(replies)
    for theirs, own in zip(*seen, strict=True):
        assert (theirs.text, theirs.finish, theirs.reply_tokens) == (own.text, own.finish, own.reply_tokens)
        assert theirs.prompt_tokens == theirs.computed_tokens == own.prompt_tokens
    assert seen[1][-1].computed_tokens < seen[0][-1].computed_tokens


@pytest.mark.slow
def test_rollouts_of_baseline_and_engine_are_the_same_episodes(project: Path) -> None:
    settings, tasks, warmup = short_settings(), rollout.drawn("train", 2), rollout.drawn("dev", 1)
    found = {name: rollout.measure(name, settings, tasks, warmup) for name in ("sequential", "cpu")}
    facts = rollout.compared(found)
    baseline, ours = facts["engines"].values()
    for key in ("episodes", "successes", "mean_turns", "reply_tokens_per_turn", "machine_failures"):
        assert baseline[key] == ours[key]
    assert (ours["episodes"], ours["machine_failures"], ours["mean_turns"]) == (2, 0, 2.0)
    assert baseline["computed_tokens"] > ours["computed_tokens"] > 0
    assert facts["speedup_vs_sequential"] == ours["speedup"] > 0
    assert baseline["speedup"] == 1


@pytest.mark.slow
def test_hints_are_compared_and_what_was_played_is_not_played_again(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = short_settings()
    llm = settings.hints.llm.model_copy(update={"max_tokens": 8})
    settings = settings.model_copy(
        update={
            "axes": settings.axes.model_copy(update={"cell": [rollout.CELL]}),
            "engine": settings.engine.model_copy(update={"context": 12_000}),
            "hints": settings.hints.model_copy(update={"llm": llm}),
        }
    )
    runner = Runner(settings, rollout.CELL, System("base"))
    runs, facts = runner.play("train")
    runner.write(Path("data/rollouts") / rollout.CELL, "rollouts", {"episodes": runs["train"]}, facts)
    found = hints.measure(settings, ["dev", "train"], limit=1)
    assert found.limit == 1
    assert {(row["panel"], row["n"]) for row in found.rows} == {("dev", 1), ("train", 1)}
    rules = [row for row in found.rows if row["writer"] == "rules" and row["panel"] == "dev"]
    assert len(rules) == 22 and all(row["hints_shown"] >= 1 for row in rules)
    assert found.skipped == [f"{rollout.CELL}, self, 100 % of the failures, draw 0: no hint passed the gate"]
    assert {row["writer"] for row in found.rows} == {"none", "rules"}
    assert f"{rollout.CELL}, dev: 23 episodes, 3 different\n" in capsys.readouterr().out
    kept = Path(".cache/hint_study") / rollout.CELL / "dev/rules_100_0_rank_category_k3.parquet"
    [episode] = read(kept, Episode)
    assert (episode.task_id, episode.system, len(episode.hints)) == ("dev0", "rag", 2), "its bank has no more"
    monkeypatch.setattr(cpu.CpuEngine, "open", lambda *_: pytest.fail("played again"))
    assert hints.measure(settings, ["dev", "train"], limit=1) == found


def rollouts_with(at: Settings, lost: dict[str, int]) -> None:
    """Rollouts and probes of every cell in the working folder, with so many failures."""
    for cell in at.axes.cells:
        played = [fake_study.episode("base", f"heat-{n}", "heat", False) for n in range(lost[cell])]
        won = fake_study.episode("base", "put-0", "put", True)
        write(Path(f"data/rollouts/{cell}/episodes.parquet"), Episode, [*played, won])
        write(Path(f"data/hints/{cell}/probes.parquet"), ProbeRecord, [])


def test_servers_are_asked_about_each_cell_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study = load(ROOT / "params.yaml")
    rollouts_with(study, {"alfworld_react": 3, "webshop_act": 2})
    assert [len(of_cell) for of_cell in structured.failures(study, 4)] == [2, 2]
    assert [len(of_cell) for of_cell in structured.failures(study, 1)] == [1, 1]
    rollouts_with(study, {"alfworld_react": 3, "webshop_act": 0})
    assert [len(of_cell) for of_cell in structured.failures(study, 4)] == [2]


def test_where_nothing_failed_no_server_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    rollouts_with(load(), {"alfworld_react": 0, "webshop_act": 0})
    monkeypatch.setattr(structured, "base_model", lambda: tmp_path)
    monkeypatch.setattr(structured, "started", lambda *_: pytest.fail("started"))
    monkeypatch.setattr("sys.argv", ["benchmarks/structured.py", "vllm"])
    assert common.faults_in_one_line(structured.main) == 1
    assert capsys.readouterr().err.startswith("structured: data/rollouts: no agent failed at a train task")
    monkeypatch.setattr("sys.argv", ["benchmarks/structured.py", "vllm", "--failures", "0"])
    with pytest.raises(SystemExit, match="2"):
        structured.main()
    assert "--failures: expected 1 or more, found 0" in capsys.readouterr().err


def test_a_server_that_cannot_be_measured_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers.importlib.util, "find_spec", lambda package: None)
    with pytest.raises(SystemExit, match=r"--server llama\.cpp: xllamacpp is not installed; pip install it"):
        servers.check("llama.cpp")
    with pytest.raises(SystemExit, match=r"--server sglang: expected transformers, llama\.cpp, vllm or an address"):
        servers.check("sglang")
    servers.check("vllm")  # in an environment of its own, which is made where it is missing
    servers.check("https://example.org/v1")


def test_a_server_that_does_not_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = servers.Room(1, 64, 1, torch.float32)
    monkeypatch.setattr(servers.sys, "executable", "/bin/cat")  # knows no option -m, says so and ends
    (tmp_path / "model").mkdir()
    with (
        pytest.raises(RuntimeError, match=r"serve local/base .*: it does not serve; it said\n.*cat: "),
        servers.started("transformers", tmp_path / "model", room),
    ):
        pass


@pytest.mark.slow
def test_both_alfworld_engines_show_the_same_on_the_same_actions(project: Path) -> None:
    facts = environment.measure(rollout.PANELS, rollout.drawn("train", 1), commands=3)
    assert facts["speedup"] > 1
    assert facts["stock"].keys() >= {"load_ms", "reset_ms", "step_ms", "steps_per_second"}
    assert facts["ours"].keys() >= {"cold_reset_ms", "reset_ms", "step_ms", "steps_per_second"}


@pytest.mark.slow
def test_training_of_a_tiny_model(quick: None, tiny_llama: Path) -> None:
    recipe = load(ROOT / "params.yaml").students["alfworld"]
    examples = [Encoded(list(range(1, 60)), [-100] * 40 + list(range(41, 60))) for _ in range(40)]
    facts = training.measure(tiny_llama, examples, recipe, torch.float32, first=2)
    assert (facts["conversations"], facts["tokens"], facts["supervised_tokens"]) == (38, 38 * 59, 38 * 19)
    assert facts["share_of_gemm"] == pytest.approx(facts["gflops"] / facts["gemm_gflops"])
