"""What several modules of tests share, made once a session."""

from __future__ import annotations

from pathlib import Path

import pytest
from project import copy_project
from small_study import make_study


@pytest.fixture(scope="session")
def small_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished study, to be copied and left as it is."""
    folder = tmp_path_factory.mktemp("small_study")
    with pytest.MonkeyPatch.context() as patch:
        copy_project(folder, patch)
        make_study()
    return folder


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's database with its tables made: a copy of it spares each test the migrations."""
    from mlflow.tracking import MlflowClient  # which only these tests pay for

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def finished(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished pipeline in the working directory, which nobody has recorded yet."""
    from tracked import finish_pipeline

    finish_pipeline(tmp_path, empty_store, monkeypatch)
    return tmp_path
