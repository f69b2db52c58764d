"""Writes and removes models in an origin until it is killed, and says what it was told is done."""

import sys

import numpy as np

from pbstore.errors import PBStoreError
from pbstore.serve.origin.catalog import Catalog
from pbstore.serve.origin.objects import open_objects
from pbstore.serve.origin.remove import remove
from tests.pbstore.serve.origin.kit import put_model, some_blocks


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def main(url: str, writer: str, seed: int, lease_s: float) -> None:
    rng = np.random.default_rng(seed)
    catalog = Catalog(open_objects(url))
    while True:
        name = f"{writer}/m{rng.integers(4)}"
        if rng.random() < 0.3 and catalog.find(name) is not None:
            say("removing", name)
            try:
                remove(catalog, name)
            except PBStoreError as error:
                say("refused", type(error).__name__)
                continue
            say("removed", name)
            continue
        numbers = sorted(rng.choice(12, 5, replace=False).tolist())
        say("writing", name, *numbers)
        try:
            put_model(catalog, name, some_blocks(numbers, 20_000), replace=True, lease_s=lease_s)
        except PBStoreError as error:
            say("refused", type(error).__name__)
            continue
        say("wrote", name, *numbers)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
