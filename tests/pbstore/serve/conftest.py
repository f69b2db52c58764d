"""The family of models that several files of tests copy between nodes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pbstore import DiskBlockStore
from tests.pbstore.serve.families import make_family


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("family")


@pytest.fixture(scope="module")
def family(root: Path, request: pytest.FixtureRequest) -> Iterator[DiskBlockStore]:
    """A store of the family; `FAMILY` of the test's file says how large it is."""
    with make_family(root, **getattr(request.module, "FAMILY", {})) as store:
        yield store
