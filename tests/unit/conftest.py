"""Sets of pictures that several modules read; each module has its own copy."""

from pathlib import Path

import pytest

from tests.support.picture_sets import make_animals, make_faces


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_faces(tmp_path_factory.mktemp("fer"))


@pytest.fixture(scope="module")
def animals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_animals(tmp_path_factory.mktemp("animals"))
