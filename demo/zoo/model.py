"""One model of the zoo, as the rest of the demo sees it."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from demo.zoo.cache import write_atomic


@dataclass(frozen=True, slots=True, kw_only=True)
class ZooModel:
    """An ordinary Hugging Face folder with what was measured about it."""

    name: str
    """`org/model`."""
    folder: Path
    base: str | None
    """Name of the model it was made from; an adapter needs it to run."""
    kind: str
    """`pretrained`, `full-fine-tune`, `frozen-bottom`, `update`, `soup`, `fusion`, `adapter`,
    `merged-adapter`, `cast` or `sharded`."""
    task: str
    """`embedding`, `classification`, `generation`, `fill-mask` or `image-classification`."""
    raw_bytes: int
    """Sum of the sizes of its files."""
    metric: str | None = None
    """What `value` measures, on held-out rows."""
    value: float | None = None
    majority: float | None = None
    """The same metric for always answering the most frequent class (token) of the training rows."""
    license: str
    origin: str
    """Where the weights and the training text come from."""
    labels: tuple[str, ...] = ()
    sample_inputs: tuple[str, ...] = field(default=())
    """Held-out inputs for a first run."""

    def as_json(self) -> dict[str, Any]:
        """Plain types only."""
        return {**asdict(self), "folder": str(self.folder)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "ZooModel":
        """Inverse of `as_json`."""
        tuples = {key: tuple(value[key]) for key in ("labels", "sample_inputs")}
        return cls(**{**value, **tuples, "folder": Path(value["folder"])})


def write_zoo_json(path: Path, models: Sequence[ZooModel]) -> None:
    """List the models of a zoo in one file; folders are kept relative to it, so that a cache may be moved."""
    listed = [{**model.as_json(), "folder": os.path.relpath(model.folder, path.parent)} for model in models]
    text = json.dumps(listed, indent=1, sort_keys=True, ensure_ascii=False)
    write_atomic(path, text.encode() + b"\n")


def read_zoo_json(path: Path) -> list[ZooModel]:
    """Models listed by `write_zoo_json`."""
    listed = json.loads(path.read_text(encoding="utf-8"))
    home = path.parent.resolve()
    return [ZooModel.from_json({**one, "folder": os.path.normpath(home / one["folder"])}) for one in listed]
