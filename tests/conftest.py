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
