"""Every command of README and docs, run as it stands there, or named here with what runs it or why nothing can.

In a copy of the project with a study of few games: a tiny model that has learnt by heart to win the train games of one kind.
"""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from doc_tables import TABLES, between
from project import enter, run
from structure import ROOT

from stages.core.params import load

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
SERVERS = {"./run ui": "http://127.0.0.1:5000/", "python -m stages shop": "http://127.0.0.1:3000/fixed_0"}
ELSEWHERE = {
    r"\. \.venv/bin/activate": "the tests run in the environment",
    r"\./run repro|dvc repro": "the study; the graph's commands are run by this test's study",
    r"\./run test.*": "this is it",
    r"\./run exp --profile (cpu_study|agents|paper_7b)": "hours, or a GPU; the profiles are read by tests/test_commands.py",
    r"dvc exp run .*model\.source=Qwen/.*": "needs a model hub",
    r"dvc exp run .*hints\.writer=llm .*": "needs a model at a server: tests/test_hint_writers.py",
    r"pip install .*": "needs a registry: tests/test_extras.py",
    r"\./run setup": "makes the environment: tests/test_extras.py",
    r"dvc repro panels@alfworld panels@webshop source": "fetches data and model",
    r"MLFLOW_TRACKING_URI=.*": "a server of MLflow: tests/test_track_store.py",
    r"RAY_ADDRESS=.*": "a cluster: tests/test_ray_executor.py",
    r"vllm serve .*": "another server",
    r"python benchmarks/.*": "an otherwise idle machine: tests/test_benchmarks.py",
    r"dvc repro -f panels@alfworld demos@alfworld": "official games: tests/test_paper_study.py",
    r"python -m stages fetch .* --(download|from) ?.*": "a network, or the official data: tests/test_fetch.py",
    r"dvc exp run --queue .*|dvc queue .*": "tests/test_experiments.py",
    r"dvc remote add .*|dvc (push|pull)": "tests/test_remotes.py",
    r"python -m stages play --env webshop --site .*": "tests/test_play.py",
    r"dvc repro base|PATH=.*|export VLLM_.*": "vLLM's build for CPUs, from a registry: tests/test_vllm_real.py",
    r"python -m stages profile (paper_7b|paper_14b|paper_small|fsdp)": "changes params.yaml: tests/test_commands.py",
}


def commands() -> Iterator[tuple[str, str]]:
    """Every command of a page's shell blocks, without its comment, and the page."""
    for page in PAGES:
        for block in re.findall(r"```(?:bash|console)\n(.*?)```", page.read_text(encoding="utf-8"), re.S):
            for line in block.replace("\\\n", " ").splitlines():
                command = re.sub(r"(^|\s+)#.*", "", line).strip()
                if command:
                    yield command, page.name


COMMANDS = list(dict.fromkeys(command for command, _ in commands()))
RUN = [c for c in COMMANDS if c not in SERVERS and not any(re.fullmatch(pattern, c) for pattern in ELSEWHERE)]


def test_what_is_run_elsewhere_is_still_on_a_page() -> None:
    assert [p for p in ELSEWHERE if not any(re.fullmatch(p, command) for command in COMMANDS)] == []
    assert set(SERVERS) <= set(COMMANDS)


@pytest.mark.parametrize(("page", "mark"), TABLES)
def test_a_table_shows_the_figures_of_the_committed_metrics(page: str, mark: str) -> None:
    shown = between((ROOT / page).read_text(encoding="utf-8"), mark)
    assert shown == "\n".join(TABLES[page, mark]()), "run `python tests/doc_tables.py`"


@pytest.fixture(scope="module")
def study(small_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("docs") / "project"
    shutil.copytree(small_study, folder, symlinks=True)
    with pytest.MonkeyPatch.context() as patch:
        enter(folder, patch)
        yield folder


def as_run(command: str) -> list[str]:
    """A page's command; a hint's id stands for any of the bank's."""
    if "--hint" in command:
        bank = pl.read_parquet("data/hints/alfworld_react/bank.parquet")
        command = re.sub(r"--hint \w+", f"--hint {bank['entry_id'][0][:8]}", command)
    return shlex.split(command)


@pytest.mark.slow
@pytest.mark.parametrize("command", RUN)
def test_a_documented_command_does_what_the_page_says(study: Path, command: str) -> None:
    settings = load()
    code = 1 if "doctor --profile paper" in command else 0  # it names what is missing here
    said = run(*as_run(command), stdin="look\nquit\n", code=code)
    assert said.strip()
    assert load() == settings, "a documented command leaves params.yaml as it was"
    if command == "./run demo":
        assert (study / "demo/report/index.html").is_file() and "distilled" in said


@pytest.mark.slow
def test_the_lines_that_load_a_registered_student_load_it(study: Path) -> None:
    [lines] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    imports = "import mlflow\nfrom peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n"
    imports += "from stages.models.manifest import model_folder\n"
    assert "default LORA" in run("python", "-c", f"{imports}{lines}print(*model.peft_config, model.peft_type.value)")


@pytest.mark.slow
@pytest.mark.parametrize("command", SERVERS)
def test_a_documented_server_answers(study: Path, command: str) -> None:
    with subprocess.Popen(shlex.split(command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            assert answers(SERVERS[command], server)
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(timeout=30)


def answers(url: str, server: subprocess.Popen[str]) -> bool:
    """Whether the address answers before the server ends, within two minutes."""
    import time

    for _ in range(240):
        try:
            with urllib.request.urlopen(url, timeout=5) as page:
                return bool(page.status == 200)
        except OSError:
            if server.poll() is not None:
                raise AssertionError(server.stdout.read() if server.stdout else "") from None
            time.sleep(0.5)
    return False
