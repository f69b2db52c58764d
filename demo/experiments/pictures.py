"""Draw the committed pictures again from their JSON or CSV; plays nothing.

python -m demo.experiments.pictures
"""

import json
from collections.abc import Sequence
from pathlib import Path

from demo.experiments.learners_picture import draw_convergence
from demo.experiments.options import out_option
from demo.experiments.papers.redraw import redraw
from demo.show.ladder import draw_capacities, draw_ladder
from policy.evaluation import Evaluation

RESULTS = Path(__file__).parent / "results"


def draw_all(source: Path, folder: Path) -> list[Path]:
    """Draw what a folder of results holds.

    Args:
        source: Folder with `ladder-<name>.json`, `beamformers.json` (real ones) and `convergence.json`.
        folder: Where the pictures go.

    Returns:
        The pictures.
    """
    drawn = []
    for path in sorted(source.glob("ladder-*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        drawn.append(folder / f"{path.stem}.png")
        draw_ladder(Evaluation.from_dict(document["ladder"]), drawn[-1])
        sweep = {float(k): Evaluation.from_dict(v) for k, v in document["capacities"].items()}
        if sweep:
            drawn.append(folder / f"{path.stem.replace('ladder', 'capacities', 1)}.png")
            draw_capacities(sweep, drawn[-1])
    for path in source.glob("beamformers.json"):
        drawn.append(folder / "beamformers.png")
        draw_ladder(Evaluation.from_dict(json.loads(path.read_text(encoding="utf-8"))), drawn[-1])
    for path in source.glob("convergence.json"):
        drawn.append(folder / "convergence.png")
        draw_convergence(json.loads(path.read_text(encoding="utf-8")), drawn[-1])
    papers = folder / "papers"
    if (source / "papers").is_dir():
        papers.mkdir(exist_ok=True)
        drawn += redraw(source / "papers", papers)
    return drawn


def main(argv: Sequence[str] | None = None) -> int:
    """Draw into a folder, and name the pictures."""
    for picture in draw_all(RESULTS, out_option(__doc__, RESULTS, argv)):
        print(picture.name)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
