"""What is kept of a scheme that is handed over as an object depends on the weights that it plays."""

import shutil
from pathlib import Path

import pytest

from policy.evaluation import sources
from policy.evaluation.sources import code_version
from policy.schemes import find_scheme


@pytest.mark.parametrize("name", ["learned", "planner-clock"])
def test_an_entry_of_something_learned_depends_on_the_shipped_weights(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [code_version(find_scheme(each)) for each in (name, "lru")]
    assert None not in before
    shutil.copytree(sources.ROOT / "weights", tmp_path / "weights")
    decisions = tmp_path / "weights" / "augur-decisions.safetensors"
    decisions.write_bytes(decisions.read_bytes() + b"\0")
    monkeypatch.setattr(sources, "ROOT", Moved(sources.ROOT, tmp_path))
    sources._version.cache_clear()
    after = [code_version(find_scheme(each)) for each in (name, "lru")]
    sources._version.cache_clear()

    assert after[0] != before[0]
    assert after[1] == before[1]


class Moved:
    """The package's folder with other weights in it."""

    def __init__(self, root: Path, other: Path) -> None:
        self.root, self.other = root, other

    def __truediv__(self, part: str) -> Path:
        return (self.other if part == "weights" else self.root) / part
