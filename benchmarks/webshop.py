"""WebShop: milliseconds a step in this process and over HTTP, seconds to load, memory, and milliseconds a query of a large shop.

    python benchmarks/webshop.py

Plays the walk "search the instruction, open the first product, its description, back, buy" over generated goals; prints
a table and writes benchmarks/webshop.json. The processor should have nothing else to do.
"""

from __future__ import annotations

import json
import resource
import statistics
import tempfile
import time
from pathlib import Path

from stages.core.params import load
from stages.envs.base import Environment, Observation, Task
from stages.envs.panel import load_panel
from stages.envs.webshop.catalogue import Catalogue
from stages.envs.webshop.environment import WebShopEnvironment, read_catalogue, read_spec
from stages.panelling.webshop.generator import generate
from stages.panelling.webshop.nouns import ListedNouns
from stages.panelling.webshop.official import read_official
from stages.panelling.webshop.panels import build_panels
from stages.panelling.webshop.vocabulary import NOUNS
from stages.site.remote import RemoteShop
from stages.site.server import serve

OUT = Path(__file__).with_suffix(".json")
LARGE = 20_000


def main() -> None:
    settings = load(Path(__file__).parents[1] / "params.yaml").panels["webshop"]
    with tempfile.TemporaryDirectory() as folder:
        root, opened = Path(folder) / "webshop", Path(folder) / "opened"
        build_panels(settings, root, names=("warmup",))
        tasks, _ = load_panel(root, "warmup")
        spec = read_spec(tasks[0])
        before = _rss()
        start = time.perf_counter()
        shop = read_catalogue(root / spec.catalogue, spec.catalogue_sha256, opened)
        facts = {"products": settings.products, "load_seconds": time.perf_counter() - start}
        local = _walk(WebShopEnvironment(root, opened), tasks)
        facts |= {"memory_mb": _rss() - before} | {f"process_{name}": value for name, value in local.items()}
        goals = [read_spec(task).goal for task in tasks]
        sessions = [
            Task(t.task_id, t.env, t.panel, t.category, t.goal, {"session": f"fixed_{n}", "instruction": t.goal})
            for n, t in enumerate(tasks[:100])
        ]
        with serve(shop, goals) as site:
            facts |= {f"http_{name}": value for name, value in _walk(RemoteShop(site.url), sessions).items()}
        facts |= _large(Path(folder) / "large", [goal.instruction for goal in goals[:100]])
    for name, value in facts.items():
        print(f"{name:24} {value:10.2f}")
    OUT.write_text(
        json.dumps({name: round(value, 3) for name, value in facts.items()}, indent=1) + "\n", encoding="utf-8"
    )


def _walk(env: Environment, tasks: list[Task]) -> dict[str, float]:
    """Milliseconds a step (median, 95th percentile) and steps a second, resets not counted."""
    times = []
    for task in tasks:
        seen = env.reset(task)
        for choose in (_search(task), _first_product, "click[Description]", "click[< Prev]", "click[Buy Now]"):
            action = choose if isinstance(choose, str) else choose(seen)
            start = time.perf_counter()
            seen = env.step(action)
            times.append(1000 * (time.perf_counter() - start))
        assert seen.done
    return {
        "ms_median": statistics.median(times),
        "ms_p95": statistics.quantiles(times, n=20)[-1],
        "steps_a_second": 1000 * len(times) / sum(times),
    }


def _search(task: Task) -> str:
    return f"search[{task.goal}]"


def _first_product(seen: Observation) -> str:
    return next(a for a in seen.admissible if a.lower().startswith("click[b0"))


def _large(folder: Path, queries: list[str]) -> dict[str, float]:
    generate(folder, LARGE, 7)  # under the names of the official files of 1,000 products, whatever their number
    data = read_official(folder, products="1000", seed=7, nouns=ListedNouns(NOUNS))
    start = time.perf_counter()
    shop = Catalogue(data.products)
    loaded = time.perf_counter() - start
    times = []
    for query in queries:
        start = time.perf_counter()
        shop.find(query.split())
        times.append(1000 * (time.perf_counter() - start))
    return {"large_products": LARGE, "large_index_seconds": loaded, "large_query_ms_median": statistics.median(times)}


def _rss() -> float:
    """Peak memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
