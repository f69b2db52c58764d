"""Bytes that one fresh device receives for each model of the zoo: as kept, each block alone, and chosen.

python -m demo.experiments.form_bytes
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from demo.bridge.store_catalog import catalog_from_store
from demo.console import Sheet
from demo.zoo import build_zoo
from pbstore import open_store
from policy.interfaces import BlockCatalog
from policy.world.forms import FormChoice


def fresh_bytes(catalog: BlockCatalog) -> list[tuple[str, float, float, float]]:
    """Model, bytes as kept, alone and chosen, for a device that holds nothing and is alone in its slot."""
    choice = FormChoice(catalog)
    rows = []
    for name, content in zip(catalog.model_names, choice.content, strict=True):
        wanted, has = content[None], np.zeros((1, content.size), dtype=bool)
        needs, alone = choice.choose(wanted, has)
        kept = np.ones(content.size, dtype=bool)
        as_kept = choice.air_bytes(kept, choice.resolve(kept, wanted, has))
        rows.append((name, as_kept, choice.air_bytes(~kept, wanted), choice.air_bytes(~alone, needs)))
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Store the zoo, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", choices=("small", "full"), default="small", help="which zoo")
    size = parser.parse_args(argv).size
    zoo = build_zoo(size)
    with tempfile.TemporaryDirectory() as scratch, open_store(Path(scratch) / "store") as store:
        for model in zoo:
            base = model.base if model.base in store.models() else None
            store.add(model.folder, name=model.name, base=base, thorough=True)
        bases = {model.name: model.base for model in zoo if model.kind == "adapter"}
        catalog = catalog_from_store(store, bases).catalog
    table = Sheet("model", "#as kept MB", "#each alone MB", "#chosen MB", box=None)
    for name, *sizes in fresh_bytes(catalog):
        table.row(name, *(f"{size / 1e6:.1f}" for size in sizes))
    table.print()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
