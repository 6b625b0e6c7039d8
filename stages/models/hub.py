"""The hub's models, which stay in the hub's own cache on this machine: what a hub id means, and its files, each fetched once."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.core.process import Fault

_PATIENCE = 5.0  # seconds for a connection to the hub, and for its answer


class ModelError(Fault, RuntimeError):
    """The model cannot be had or is not what it should be: says which file, what was expected, what to do."""


class Unreachable(ModelError):
    """Nobody answers at the hub's address, or this machine is set not to ask."""


@dataclass(frozen=True)
class Listing:
    """A commit of a hub id, and its files with their bytes."""

    commit: str
    files: dict[str, int]


def look_up(model: str, revision: str | None) -> Listing:
    """What the hub has under an id at a revision (None: its main branch); where it cannot be reached, what its cache has.

    Raises `Unreachable` when there is neither, `ModelError` for an id or a revision that the hub does not give out.
    """
    from huggingface_hub import hf_hub_download

    try:
        info = _ask(model, revision)
        if any(file.rfilename == "config.json" for file in info.siblings or ()):
            with _in_one_line(model, revision):
                hf_hub_download(model, "config.json", revision=revision)  # the cache then knows what the revision means
        return Listing(str(info.sha), {file.rfilename: int(file.size or 0) for file in info.siblings or ()})
    except Unreachable:
        known = in_cache(model, revision, "config.json")
        if known is None:
            raise
        folder = known.parent
        return Listing(folder.name, {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()})


def in_cache(model: str, revision: str | None, name: str) -> Path | None:
    """A file in the hub's cache; None where the cache lacks it."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(model, name, revision=revision)
    return Path(found) if isinstance(found, str) else None


def hub_cache() -> Path:
    """The folder of the hub's cache, or what exists of the way to it."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE).absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())


def fetch(model: str, commit: str, names: Sequence[str]) -> Path:
    """The folder in the hub's cache with these files of a commit, of which those that it lacks are fetched. Raises `ModelError`."""
    from huggingface_hub import snapshot_download

    found = [path for name in names if (path := in_cache(model, commit, name))]
    if len(found) == len(names):
        return found[0].parent
    _ask(model, commit)  # a fetch that meets no hub tries again for half a minute
    with _in_one_line(model, commit):
        return Path(snapshot_download(model, revision=commit, allow_patterns=list(names), ignore_patterns=["*/*"]))


def _ask(model: str, revision: str | None) -> Any:
    from huggingface_hub import HfApi

    with _in_one_line(model, revision):
        return HfApi().model_info(model, revision=revision, files_metadata=True, timeout=_PATIENCE)


@contextmanager
def _in_one_line(model: str, revision: str | None) -> Iterator[None]:
    """What the hub's library raises as a `ModelError` of one line; its notes on what it tries again are kept back."""
    from huggingface_hub import constants, errors

    transport: Any = errors.HTTPError  # type: ignore[attr-defined]  # of the HTTP library that this version of it is built on
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        yield
    except errors.GatedRepoError as error:
        raise ModelError(
            f"{model}: the hub gives it out only to those who accepted its terms on its page; do so, and log in with `hf auth login`"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(
            f"model.source {model!r} is no folder here, and the hub has no such model, or a private one: correct it, or log in with "
            "`hf auth login`"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(f"{model}: the hub has no revision {revision!r}; correct model.revision") from error
    except errors.HFValidationError as error:
        raise ModelError(f"model.source {model!r} is neither a folder here nor a hub id (owner/name)") from error
    except (transport, ImportError, ConnectionError, errors.LocalEntryNotFoundError) as error:
        raise Unreachable(
            f"{model}: the hub at {constants.ENDPOINT} cannot be reached ({reason(error)}), and its cache here lacks files of the model; "
            "see to the network (HTTPS_PROXY, HF_ENDPOINT, HF_HUB_OFFLINE), or set model.source to a folder that holds the model"
        ) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{model}: cannot be fetched into the hub's cache ({reason(error)})") from error


def reason(error: Exception) -> str:
    """The first line of what an error says."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]
