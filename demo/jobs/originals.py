"""What deliveries are compared with: the zoo's models, or those of a store of one's own."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from demo.emulation.device import file_hashes
from demo.jobs.report import ZooReport
from demo.zoo import ZooModel
from demo.zoo.answer import Inference
from pbstore import DiskBlockStore, Manifest

log = logging.getLogger(__name__)

ADAPTER_CONFIG = "adapter_config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """One model as it was put into the store."""

    row: ZooReport
    """What is told of it."""
    hashes: Mapping[str, str]
    """SHA-256 of every file, by relative path."""
    folder: Path | None
    """Its folder; None: to be checked out of the store."""
    infer: Callable[[Path, Path | None], Inference]
    """Runs a folder with the model, given that of its base for an adapter."""

    @property
    def base(self) -> str | None:
        """Model that an adapter cannot run without."""
        return self.row.base if self.row.kind == "adapter" else None


def of_zoo(zoo: Sequence[ZooModel]) -> dict[str, Original]:
    """The zoo's models by name; their folders are the originals."""
    return {model.name: _of_zoo(model) for model in zoo}


def _of_zoo(model: ZooModel) -> Original:
    row = ZooReport(
        model=model.name,
        base=model.base,
        kind=model.kind,
        raw_bytes=model.raw_bytes,
        metric=model.metric,
        value=model.value,
        majority=model.majority,
    )
    return Original(
        row=row, hashes=file_hashes(model.folder), folder=model.folder, infer=partial(_infer_zoo, model)
    )


def _infer_zoo(model: ZooModel, folder: Path, base_folder: Path | None) -> Inference:
    from demo.zoo.inference import infer  # torch: only those who ask a model need it

    return infer(folder, model, base_folder=base_folder)


def _infer_stored(folder: Path, base_folder: Path | None) -> Inference:
    from demo.zoo.anything import infer_anything

    return infer_anything(folder, base_folder)


def of_store(store: DiskBlockStore) -> dict[str, Original]:
    """The models of a store by name; an adapter's base is the one that its configuration names.

    Raises:
        ValueError: If the store holds no model.
    """
    names = store.models()
    if not names:
        raise ValueError(f"{store.path} holds no model: add one with `pbcast store add FOLDER --name NAME`")
    return {name: _of_store(store, store.manifest(name), names) for name in names}


def _of_store(store: DiskBlockStore, manifest: Manifest, names: Sequence[str]) -> Original:
    base = manifest.base.name if manifest.base is not None else None
    adapter = any(entry.path == ADAPTER_CONFIG for entry in manifest.files)
    if adapter:
        wanted = _named_base(store, manifest)
        base = next((name for name in (wanted, base) if name in names), None)
        if base is None:
            log.warning(
                "%s is an adapter and its base %s is not in %s: it is sent by itself and cannot be run",
                manifest.name,
                wanted or "(not named)",
                store.path,
            )
    return Original(
        row=ZooReport(
            model=manifest.name,
            base=base,
            kind="adapter" if adapter else "own",
            raw_bytes=manifest.raw_bytes,
            metric=None,
            value=None,
            majority=None,
        ),
        hashes={entry.path: entry.sha256 for entry in manifest.files},
        folder=None,
        infer=_infer_stored,
    )


def _named_base(store: DiskBlockStore, manifest: Manifest) -> str | None:
    entry = next(entry for entry in manifest.files if entry.path == ADAPTER_CONFIG)
    try:
        config = json.loads(b"".join(bytes(store.get(piece.block_id)) for piece in entry.pieces))
        return str(config["base_model_name_or_path"])
    except (ValueError, KeyError, TypeError):
        return None
