"""Which project modules a stage is made of, read from the imports.

python tests/structure.py students    print the code dependencies of that stage as dvc.yaml should list them
python tests/structure.py --write     put all of them into dvc.yaml
"""

from __future__ import annotations

import ast
import re
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "stages"


# Modules that no stage lists: a change in them cannot change what a stage computes, and listing them would rerun everything.
PLUMBING = {
    "stages/params.py",  # the values a stage uses are tracked, one by one, under `params:`
    "stages/files.py",
    "stages/runner/ray.py",  # where episodes are played determines nothing of them
    "stages/process.py",
    "stages/records.py",  # `read` refuses a table of another schema
}


def module_file(name: str) -> Path | None:
    """The file of a dotted module of this project, or None."""
    base = ROOT / name.replace(".", "/")
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def imported(path: Path) -> set[str]:
    """Dotted names that a file imports anywhere, in functions too, as far as they are this project's."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] == "stages" and module_file(name)}


def has_code(path: Path) -> bool:
    """False for a package file that holds nothing but its docstring."""
    return any(not isinstance(node, ast.Expr) for node in ast.parse(path.read_text(encoding="utf-8")).body)


@cache
def closure(name: str) -> frozenset[Path]:
    """All files that a module is made of, itself included."""
    seen: set[Path] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        parents = [".".join(current.split(".")[: n + 1]) for n in range(current.count("."))]
        path = module_file(current)
        if path is None or path in seen:
            continue
        seen.add(path)
        waiting += [*imported(path), *parents]
    return frozenset(p for p in seen if has_code(p))


def code_deps(command: str) -> list[str]:
    """Files under stages/ that a stage's command runs, relative to the root. Templates and examples a module reads count with it."""
    entry = re.search(r"-m (stages\.\w+)", command)
    assert entry, command
    files = {p.relative_to(ROOT).as_posix() for p in closure(entry[1])}
    if "stages/report.py" in files:
        files |= {"stages/templates/report.html.j2", "stages/templates/report.md.j2"}
    if "stages/agents/shots.py" in files:
        files |= {f"stages/agents/examples/{env}.json" for env in ("alfworld", "webshop")}
    if "stages/engines/kernel.py" in files:
        files |= {f"stages/engines/{name}" for name in ("attention.cpp", "layers.cpp", "vectors.h")}
    return sorted(files - PLUMBING)


def main(argv: list[str]) -> None:
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    path = ROOT / "dvc.yaml"
    text = yaml.load(path.read_text(encoding="utf-8"))
    if argv == ["--write"]:
        for stage in text["stages"].values():
            data = [dep for dep in stage.get("deps", []) if not dep.startswith("stages/")]
            stage["deps"] = [*data, *code_deps(stage["cmd"])]
        with path.open("w", encoding="utf-8") as handle:
            yaml.dump(text, handle)
    for name in argv:
        if name in text["stages"]:
            print("\n".join(code_deps(text["stages"][name]["cmd"])))


if __name__ == "__main__":
    main(sys.argv[1:])
