"""A removed model lies in the trash, with its blocks, until it is forgotten or seven days have passed."""

import tempfile
from pathlib import Path

from pbstore import open_store
from pbstore.examples.two_relatives import write_models


def main(folder: Path) -> None:
    """Remove a base whose fine-tune is stored against it, take it back under another name, forget it."""
    base, tuned = write_models(folder)
    with open_store(folder / "store", durable=False) as store:  # a scratch store need not wait for the disk
        store.add(base, name="me/base")
        store.add(tuned, name="me/tuned", base="me/base")

        store.remove("me/base")
        print(f"models {store.models()}, trash {[item.name for item in store.trash.models()]}")
        store.trash.restore("me/base", "me/back-again")
        print(f"models {store.models()}, trash {[item.name for item in store.trash.models()]}")

        store.remove("me/back-again")
        report = store.trash.forget()  # at once; a full store and `gc` do it in time
        print(f"forgotten: {report}")
        store.checkout("me/tuned", folder / "out")  # what others are stored against stays
        print(f"models {store.models()}, sound: {store.verify().ok}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        main(Path(scratch))
