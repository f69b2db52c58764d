import json
from pathlib import Path

import pytest

from demo.experiments.learners_picture import ABLATIONS, LEARNERS, main


@pytest.mark.slow
def test_curves_are_drawn_from_their_json(tmp_path: Path) -> None:
    curve = [{"env_steps": 100 * look, "cpu_s": 1.0 * look, "cost_s": 50.0 - look} for look in range(4)]
    results = {
        "curves": {name: {"1": curve, "2": curve} for name in (*LEARNERS, *ABLATIONS)},
        "references_s": {"pooled": 36.0, "lru": 46.0},
    }
    path = tmp_path / "convergence.json"
    path.write_text(json.dumps(results))

    assert main(["--results", str(path)]) == 0
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
