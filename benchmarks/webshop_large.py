"""WebShop with as many products as the official one: seconds and memory to read and index them, to open them, and to search them.

    python benchmarks/webshop_large.py FOLDER [--products 1181436]

Writes official files of made-up products to FOLDER (about 4 GB; those that are there are taken), makes the catalogue and what opens it
at once (about 6 GB), and plays with four processes. Titles' nouns are taken from a list: tagging them with spaCy comes on top. Prints
a table and writes benchmarks/webshop_large.json.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.envs.webshop.catalogue import load_catalogue, write_catalogue
from stages.envs.webshop.environment import read_catalogue
from stages.envs.webshop.pages import LocalSite
from stages.envs.webshop.records import Goal
from stages.envs.webshop.sessions import TextSession, admissible
from stages.panelling.webshop.goals import human_goals
from stages.panelling.webshop.nouns import ListedNouns
from stages.panelling.webshop.official import FILES, read_official

OUT = Path(__file__).with_suffix(".json")
PRODUCTS = 1_181_436
PROCESSES, GOALS, QUERIES, SEED = 4, 12_087, 200, 7
_WORDS = 400_000  # different ones; the n-th is as frequent as 1 / n
_FREQUENT = (
    "the and of to a with for in is this you it your on are that can or be as not will from have all if an our "
    "size color black white use i price lower than dollars looking am need easy made high quality women men"
)
_PHRASES, _PHRASE = 500_000, 5  # of which texts are put together, each of so many words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--products", type=int, default=PRODUCTS)
    args = parser.parse_args()
    if not (args.folder / FILES["all"][2]).is_file():
        _apart(_generate, args.folder, args.products)
    facts: dict[str, float] = {"products": args.products}
    facts |= {f"build_{name}": value for name, value in _apart(_build, args.folder).items()}
    facts |= _play_all(args.folder)
    for name, value in facts.items():
        print(f"{name:40} {value:12.2f}")
    OUT.write_text(json.dumps({name: round(value, 3) for name, value in facts.items()}, indent=1) + "\n", "utf-8")


def _play_all(folder: Path) -> dict[str, float]:
    """The figures of one process that plays alone, and of all at once: their memory together, and what is the median of theirs."""
    facts = {f"alone_{name}": value for name, value in _apart(_play, (folder, 0)).items()}
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        played = pool.map(_play, [(folder, number) for number in range(PROCESSES)], chunksize=1)
    facts["together_memory_gb"] = sum(one.pop("memory_gb") for one in played)
    return facts | {f"together_{name}": statistics.median(one[name] for one in played) for name in played[0]}


def _apart(run: Callable[..., Any], *args: Any) -> Any:
    """What `run` returns in a process of its own, whose memory is its alone."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(run, args)


def _words(rng: np.random.Generator) -> list[str]:
    letters = np.array(list("abcdefghiklmnoprstuvwy"))
    made = dict.fromkeys(_FREQUENT.split())
    while len(made) < _WORDS:
        lengths, drawn = rng.integers(3, 11, _WORDS), rng.integers(0, len(letters), (_WORDS, 10))
        made |= dict.fromkeys("".join(letters[row[:n]]) for n, row in zip(lengths, drawn, strict=True))
    return list(made)[:_WORDS]


def _generate(folder: Path, products: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(SEED)
    words = _words(rng)
    ids = [f"B{number:09d}" for number in rng.permutation(products)]
    with (folder / FILES["all"][0]).open("w", encoding="utf-8") as file:
        for number, item in enumerate(_items(ids, words, rng)):
            file.write((", " if number else "[") + json.dumps(item))
        file.write("]")
    attributes = [words[n] for n in rng.integers(100, 3000, 2000)]
    ins = {asin: {"attributes": [attributes[n] for n in rng.integers(0, 2000, 4)]} for asin in ids}
    (folder / FILES["all"][1]).write_text(json.dumps(ins), encoding="utf-8")
    draw = random.Random(SEED)
    human = {}
    for asin in draw.sample(ids, min(GOALS, products)):
        wanted = ins[asin]["attributes"][:2]
        text = f"i am looking for a {' '.join(draw.choices(words[60:20_000], k=4))} that is {' and '.join(wanted)}"
        human[asin] = [{"instruction": text, "instruction_attributes": wanted, "instruction_options": []}]
    (folder / FILES["all"][2]).write_text(json.dumps(human), encoding="utf-8")


def _items(ids: Sequence[str], words: Sequence[str], rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Products with texts of about the official lengths: titles of 20 words, descriptions of 120, five bullets of 25, options."""
    shares = np.cumsum(1 / np.arange(1, len(words) + 1))
    drawn = np.searchsorted(shares, rng.random(_PHRASES * _PHRASE) * shares[-1]).reshape(_PHRASES, _PHRASE)
    phrases = [" ".join([words[n] for n in row]) for row in drawn]
    pick = random.Random(SEED)

    def text(length: int) -> str:
        return " ".join(pick.choices(phrases, k=length))

    for asin in ids:
        length = pick.randint(2, 46)
        options = {"color": pick.randint(0, 11), "size": pick.randint(0, 7)}
        yield {
            "asin": asin,
            "name": f"{text(4)} \u2122 {asin[3:]}",
            "category": pick.choice(("beauty", "electronics", "fashion", "garden", "grocery")),
            "query": text(1),
            "product_category": f"{pick.choice(words)} \u203a {pick.choice(words)}",
            "full_description": text(length),
            "small_description": [text(5) for _ in range(5)],
            "pricing": f"${length}.99",
            "customization_options": {
                group: [{"value": text(1)[:12], "image": None} for _ in range(n)] for group, n in options.items() if n
            },
            "images": ["https://example.org/image.jpg"],
        }


class _Clock:
    """Seconds since it was made: on the wall, and of the processor's time for this process, which others don't lengthen."""

    def __init__(self) -> None:
        self._wall, self._processor = time.perf_counter(), time.process_time()

    def read(self, name: str, unit: float = 1.0) -> dict[str, float]:
        wall, processor = time.perf_counter() - self._wall, time.process_time() - self._processor
        return {name: wall * unit, f"{name}_processor": processor * unit}


def _build(folder: Path) -> dict[str, float]:
    clock = _Clock()
    data = read_official(folder, products="all", seed=SEED, nouns=ListedNouns(_FREQUENT.split()))
    facts = clock.read("read_seconds")
    goals = human_goals(data, SEED)
    clock = _Clock()
    sha256 = write_catalogue(folder / "catalogue.parquet", data.products)
    facts |= clock.read("write_seconds")
    clock = _Clock()
    load_catalogue(folder / "catalogue.parquet", folder / "opened")
    facts |= clock.read("index_seconds")
    facts["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    chosen = [
        {"asin": goal.asin, "instruction": goal.instruction, "cap": goal.cap} for goal in goals[: PROCESSES * QUERIES]
    ]
    (folder / "goals.json").write_text(json.dumps({"sha256": sha256, "goals": chosen}), encoding="utf-8")
    return facts


def _play(task: tuple[Path, int]) -> dict[str, float]:
    folder, number = task
    made = json.loads((folder / "goals.json").read_text(encoding="utf-8"))
    clock = _Clock()
    shop = read_catalogue(folder / "catalogue.parquet", made["sha256"], folder / "opened")
    facts = clock.read("open_seconds")
    shop.find(["lamp"])  # imports the stemmer
    searches, others = [], []
    for goal in made["goals"][number::PROCESSES]:
        wanted = Goal(goal["asin"], goal["instruction"], ("",), (), goal["cap"], 1.0)
        session = TextSession(LocalSite(shop, wanted), "text")
        clock = _Clock()
        session.step(f"search[{goal['instruction']}]")
        searches.append(clock.read("search_ms", 1000))
        found = next(action for action in admissible(session) if action.startswith("click[b"))
        for action in (found, "click[description]", "click[buy now]"):
            clock = _Clock()
            session.step(action)
            others.append(clock.read("other_step_ms", 1000))
    for times in (searches, others):
        facts |= {f"{name}_median": statistics.median(one[name] for one in times) for name in times[0]}
    return facts | {"memory_gb": _own_memory()}


def _own_memory() -> float:
    """This process's memory in GB; what it shares with others counts in parts."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 2**20


if __name__ == "__main__":
    main()
