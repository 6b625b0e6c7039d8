"""PDDL games as the SAS tasks the engine runs, translated once and kept on disk.

Translating takes most of the time to start a game (some 300 ms), and depends on nothing but the domain and the problem.
"""

from __future__ import annotations

import gc
import gzip
import hashlib
import json
import os
import sys
import tempfile
import threading
import zlib
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import fast_downward
from fast_downward.translate.pddl.conditions import Atom

SCHEMA_VERSION = 1

# The translator swaps sys.argv and sys.stdout and reads its options from a module: one at a time.
_TRANSLATOR = threading.Lock()


@dataclass(frozen=True)
class Translation:
    """What the engine needs of a game's logic.

    `sas` is the planning task in Fast Downward's format; `types` maps a type to its supertypes; `objects` an object to
    its type; `facts` are the initial atoms, predicate first; `parameters` maps an action to the (name, type) of each of
    its parameters.
    """

    sas: str
    types: dict[str, list[str]]
    objects: dict[str, str]
    facts: list[list[str]]
    parameters: dict[str, list[list[str]]]


def translate(domain: str, problem: str) -> Translation:
    """Translate PDDL, pruning nothing, as textworld does for play. Raises what Fast Downward raises for bad PDDL."""
    with _TRANSLATOR:
        arguments, output, collecting = sys.argv, sys.stdout, gc.isenabled()
        gc.disable()  # a million small objects and few cycles: looking for those takes a third of the time
        try:
            task, sas = fast_downward.pddl2sas(domain, problem)
        finally:
            sys.argv, sys.stdout = arguments, output
            if collecting:
                gc.enable()
    return Translation(
        sas=sas,
        # The domain declares a type named `object` besides PDDL's own; the engine knows the first of the two.
        types={t.name: list(t.supertype_names) for t in reversed(task.types)},
        objects={o.name: o.type_name for o in task.objects},
        facts=[[a.predicate, *a.args] for a in task.init if isinstance(a, Atom) and a.predicate != "="],
        parameters={a.name: [[p.name, p.type_name] for p in a.parameters] for a in task.actions},
    )


class TranslationCache:
    """A folder of translations, one gzipped JSON file each, named by a hash of what they were made from.

    Several processes may share it: files appear whole or not at all. A file that can't be read is made anew.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, domain: str, problem: str) -> Path:
        source = "\0".join([str(SCHEMA_VERSION), version("fast-downward-textworld"), domain, problem])
        key = hashlib.sha256(source.encode()).hexdigest()
        return self.folder / key[:2] / f"{key}.json.gz"

    def get(self, domain: str, problem: str) -> Translation:
        path = self.path(domain, problem)
        translation = _read(path)
        if translation is None:
            translation = translate(domain, problem)
            _write(path, translation)
        return translation


def _read(path: Path) -> Translation | None:
    try:
        # gzip's checksum finds a damaged file: what reaches the engine must be whole, it exits on a broken task.
        return Translation(**json.loads(gzip.decompress(path.read_bytes())))
    except (OSError, EOFError, ValueError, TypeError, zlib.error):
        return None


def _write(path: Path, translation: Translation) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = gzip.compress(json.dumps(asdict(translation)).encode(), compresslevel=3, mtime=0)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
