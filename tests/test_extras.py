"""The extras can be installed: their versions resolve on every Python that the project names, and the pinned sets are whole."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from structure import ROOT

PYTHONS = ("3.11", "3.12", "3.13")
PLATFORM = "x86_64-manylinux_2_28"
VLLMS = {"numpy", "torch", "transformers"}
"""What is another version with vLLM than in constraints.txt, of what computes: the rest of the difference is in what only serves."""


def pins(file: str) -> dict[str, str]:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    pinned = [line.partition("==") for line in lines if "==" in line]
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, _, version in pinned}


@pytest.fixture(scope="module")
def uv(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The resolver, from the registry: it resolves for other Pythons than the one at hand, which pip does not where a package has no wheel."""
    folder = tmp_path_factory.mktemp("uv")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), "uv"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no registry answers: {done.stderr.strip().splitlines()[-1]}")
    return str(folder / "bin" / "uv")


def resolved(uv: str, python: str, *options: str) -> dict[str, str]:
    """What would be installed on Linux, by name."""
    command = [
        uv,
        "pip",
        "compile",
        "--python-version",
        python,
        "--python-platform",
        PLATFORM,
        "--no-annotate",
        "--quiet",
    ]
    done = subprocess.run([*command, *options, str(ROOT / "pyproject.toml")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(re.findall(r"^([\w.-]+)==(\S+)", done.stdout, re.M))


def constrained(file: str) -> tuple[str, str]:
    return ("--constraints", str(ROOT / file))


@pytest.mark.registry
@pytest.mark.parametrize("python", PYTHONS)
def test_all_extras_resolve_together_to_pinned_versions(uv: str, python: str) -> None:
    resolved(uv, python, "--extra", "dev", "--extra", "s3", *constrained("constraints.txt"))
    found = resolved(uv, python, "--all-extras", *constrained("constraints-gpu.txt"))
    assert found.items() <= pins("constraints-gpu.txt").items()


@pytest.mark.registry
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("extra", ["gpu", "ray", "s3", "dev"])
def test_an_extra_resolves_by_itself(uv: str, python: str, extra: str) -> None:
    found = resolved(uv, python, "--extra", extra)
    assert {"torch", "trl", "peft"} <= found.keys()
    if extra == "gpu":
        assert found["vllm"] >= "0.33" and found["torch"] == "2.14.0"


def test_the_versions_with_vllm_are_otherwise_those_of_the_committed_results() -> None:
    own, gpu = pins("constraints.txt"), pins("constraints-gpu.txt")
    assert own.keys() <= gpu.keys()
    other = {name for name in own if own[name] != gpu[name]}
    assert VLLMS <= other <= {*VLLMS, "certifi", "fastapi"}, other
    text = (ROOT / "constraints-gpu.txt").read_text(encoding="utf-8")
    assert "://" not in text and " @ " not in text


NVIDIA = """#!/bin/sh
exit {code}
"""


@pytest.mark.parametrize(
    ("code", "file", "extras"), [(0, "constraints-gpu.txt", "dev,gpu"), (9, "constraints.txt", "dev")]
)
def test_setup_takes_vllms_versions_where_there_is_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, file: str, extras: str
) -> None:
    """A stand-in for nvidia-smi, and for the interpreter, whose environment holds a pip that writes down what it was asked for."""
    asked = said_by_setup(tmp_path, monkeypatch, code)
    assert f"--constraint {file} --editable .[{extras}]" in asked[-1]
    assert f"torch=={pins(file)['torch']}" in asked[-2]


def said_by_setup(folder: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> list[str]:
    tools, log = folder / "tools", folder / "log"
    tools.mkdir()
    pip = f'#!/bin/sh\necho "$*" >>{log}\n'
    made = f'mkdir -p "$4/bin"; cp {tools}/pip "$4/bin/pip"; cp {tools}/pip "$4/bin/python"'
    programs = {
        "nvidia-smi": NVIDIA.format(code=code),
        "pip": pip,
        "python3": f'#!/bin/sh\n[ "$1" = -c ] || [ "$1" = --version ] || {{ {made}; }}\n',
    }
    for name, text in programs.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    monkeypatch.setenv("PYTHON", "python3")
    monkeypatch.setenv("HINTDISTILL_VENV", str(folder / "env"))
    subprocess.run([str(ROOT / "run"), "setup"], check=True, capture_output=True)
    return log.read_text().splitlines()
