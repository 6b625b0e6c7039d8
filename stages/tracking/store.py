"""Where the runs go: the server named by MLFLOW_TRACKING_URI, or SQLite in the project's root."""

from __future__ import annotations

import logging
import os
import re
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests
from filelock import FileLock, Timeout
from mlflow.entities import Experiment, LifecycleStage
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from stages.core.files import real_root
from stages.core.process import Fault
from stages.tracking.moved import follow
from stages.tracking.study import masked

EXPERIMENT = "hintdistill"
DATABASE = "mlflow.db"
ARTIFACTS = "mlartifacts"

_URI = "MLFLOW_TRACKING_URI"
_TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
_FIRST_CONTACT = 5  # seconds, then a server counts as down
_WORK = 60  # seconds for a request once the server has answered: uploads of an adapter take long
_LOCK_WAIT = 600  # seconds; another `track` holds the lock for a few of them
_NO_ANSWER = (requests.ConnectionError, requests.Timeout, ConnectionError, TimeoutError, socket.gaierror)
_SQLITE = b"SQLite format 3\0"
_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


class StoreError(Fault, RuntimeError):
    """The store refuses or is broken: says where it is and what to do."""


class UnreachableError(StoreError):
    """The store does not answer. Results are complete without it; recording can be made up for later."""


@dataclass(frozen=True)
class Store:
    """An open store. `uri` is its address, with credentials if it has any; `shown` is without."""

    client: MlflowClient
    experiment_id: str
    uri: str
    shown: str


def store_uri(root: Path) -> str:
    """The store's address. A relative SQLite path counts from `root`, so that all experiments share one store."""
    uri = os.environ.get(_URI, "").strip() or f"sqlite:///{DATABASE}"
    if uri.startswith("sqlite:///"):
        return f"sqlite:///{root / uri.removeprefix('sqlite:///')}"
    return uri


def check_recorded(folder: Path) -> None:
    """Raise `StoreError` where the project at `folder` has no database yet, which to open would make it."""
    database = real_root(folder) / DATABASE
    if store_uri(database.parent) == f"sqlite:///{database}" and not database.exists():
        raise StoreError(f"{database}: nothing was recorded yet; run ./run repro, or ./run demo for a first result")


@contextmanager
def open_store(folder: Path) -> Iterator[Store]:
    """The store of the project at `folder`, for one process at a time.

    The lock is held throughout: parallel creation of a database fails, and a run left RUNNING is then known to have no
    living writer on this machine. Raises `UnreachableError` or `StoreError`, also for what fails while it is open.
    """
    root = real_root(folder)
    uri = store_uri(root)
    for name in ("mlflow", "alembic"):  # else they tell of each step of making a database
        logging.getLogger(name).setLevel(logging.WARNING)
    lock = FileLock(root / f"{DATABASE}.lock")
    try:
        lock.acquire(timeout=_LOCK_WAIT)
    except Timeout:
        raise StoreError(f"{lock.lock_file}: held by another `track` for {_LOCK_WAIT} s; end that first") from None
    try:
        _check_address(uri)
        if uri == f"sqlite:///{root / DATABASE}":
            follow(root / DATABASE, EXPERIMENT, root / ARTIFACTS)
        # A client resolves `models:/` in the process's default store, not in its own: they must be the same one.
        with _variable(_URI, uri), _variable(_TIMEOUT, os.environ.get(_TIMEOUT, str(_FIRST_CONTACT))):
            client = MlflowClient(tracking_uri=uri)
            found = client.get_experiment_by_name(EXPERIMENT)
        with _variable(_URI, uri), _variable(_TIMEOUT, os.environ.get(_TIMEOUT, str(_WORK))):
            yield Store(client, _experiment(client, found, uri, root), uri, masked(uri))
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise _explained(error, uri) from error
    finally:
        lock.release()


def _experiment(client: MlflowClient, found: Experiment | None, uri: str, root: Path) -> str:
    """The experiment's id; it is made when missing. A server knows where artifacts go, a bare database does not."""
    if found is None:
        served = urlsplit(uri).scheme in ("http", "https")
        return str(client.create_experiment(EXPERIMENT, None if served else (root / ARTIFACTS).as_uri()))
    if found.lifecycle_stage == LifecycleStage.DELETED:
        raise StoreError(
            f"experiment {EXPERIMENT!r} was deleted in {masked(uri)}; remove it for good with `mlflow gc`, or "
            f"bring it back with `mlflow experiments restore --experiment-id {found.experiment_id}`"
        )
    return str(found.experiment_id)


def _check_address(uri: str) -> None:
    """Find a dead database server, a missing driver or a broken file now: mlflow would try again for 100 s.

    Raises `OSError` or `StoreError`. Web servers are left to mlflow, which knows about proxies.
    """
    parts = urlsplit(uri)
    dialect = parts.scheme.split("+")[0]
    if dialect == "sqlite":
        path = Path(uri.removeprefix("sqlite:///"))
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise StoreError(f"{path}: cannot be written; give yourself the right to, or set MLFLOW_TRACKING_URI")
        if path.exists() and _start_of(path) not in (b"", _SQLITE):
            raise StoreError(f"{path}: no SQLite database; move it away, `dvc repro track` writes it anew")
    elif dialect in _PORTS and parts.hostname:
        socket.create_connection((parts.hostname, parts.port or _PORTS[dialect]), timeout=_FIRST_CONTACT).close()
        try:
            make_url(uri).get_dialect().import_dbapi()
        except ImportError as error:
            raise StoreError(f"{masked(uri)}: {error}; install that driver (psycopg[binary] for postgresql)") from error


def _start_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(_SQLITE))


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    """Set an environment variable for a while; mlflow reads these at each request."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _explained(error: Exception, uri: str) -> StoreError:
    where, what = masked(uri), masked(str(error))
    if _is_unreachable(error):
        return UnreachableError(
            f"the MLflow store at {where} does not answer: {what}\n"
            "No result is lost: DVC has them all. Start the server (or unset MLFLOW_TRACKING_URI to use SQLite in the "
            "project's root), then run `dvc repro track`."
        )
    return StoreError(f"the MLflow store at {where} refused: {what}")


def _is_unreachable(error: BaseException | None) -> bool:
    """Whether nothing answered, rather than answered no; mlflow hides the reason behind an exception of its own."""
    while error is not None:
        if isinstance(error, requests.exceptions.SSLError):
            return False
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            return True
        if isinstance(error, requests.exceptions.RetryError):
            return re.search(r"too many 50[234] error", str(error)) is not None  # a proxy whose server is gone
        if isinstance(error, _NO_ANSWER):
            return True
        error = error.__cause__ or error.__context__
    return False
