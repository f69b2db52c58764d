"""A resolver of adapters for vLLM: a request that names one gets it from a store, a node or an origin.

vLLM calls `register` through its entry point group `vllm.general_plugins`. The interface is the documented
one of `vllm.lora.resolver` (0.9 to 0.20): `resolve_lora(base_model_name, lora_name)` gives a `LoRARequest`,
or None where another resolver is to be asked.
"""

import asyncio
import json
import logging
import os
from importlib import import_module
from pathlib import Path
from shutil import rmtree
from typing import Any

from blake3 import blake3

from pbstore.disk.opening import open_store
from pbstore.disk.store import DiskBlockStore
from pbstore.errors import ManifestError, ModelExistsError, ModelMissingError
from pbstore.manifest import Manifest, check_name
from pbstore.serve.fetch.copies import pull
from pbstore.serve.library.library import commit_of_manifest
from pbstore.serve.loading.place import PLACE, cache_of, is_url, place_named

NAME = "pbcast"
"""What the resolver is called in vLLM's registry."""
CONFIG = "adapter_config.json"
log = logging.getLogger(__name__)


class AdapterFolders:
    """Adapters as folders, checked out once for each content.

    Args:
        place: Folder of a store, URL of a node, or of an object store.
        folder: Where the folders lie.
        token: Bearer token for a node.
    """

    def __init__(self, place: str, folder: Path, token: str | None = None) -> None:
        self._place, self._folder, self._token = place, folder, token

    def find(self, base: str, name: str) -> Path | None:
        """Folder of an adapter; None if there is none of this name that was made for the base.

        Args:
            base: What vLLM calls its base model: its name, or a folder.
            name: Name of the adapter.
        """
        try:
            check_name(name)
            with self._opened(name) as store:
                manifest = store.manifest(name)
                target = self._folder / f"{name.replace('/', '--')}-{commit_of_manifest(manifest)}"
                return self._checked_out(store, manifest, target) if _fits(store, manifest, base) else None
        except (ManifestError, ModelMissingError):
            return None

    def _opened(self, name: str) -> DiskBlockStore:
        """A store that has what the name means now."""
        if not is_url(self._place):
            return open_store(self._place, read_only=True)
        store = open_store(cache_of(self._place), trash_days=0)
        try:
            try:
                pull(store, name, self._place, token=self._token)
            except ModelExistsError:  # it has another content now
                store.remove(name, trash=False)
                pull(store, name, self._place, token=self._token)
        except BaseException:
            store.close()
            raise
        return store

    def _checked_out(self, store: DiskBlockStore, manifest: Manifest, target: Path) -> Path:
        if not target.exists():
            passing = target.with_name(f".tmp-{os.getpid()}-{target.name}")
            try:
                store.checkout(manifest.name, passing)
                passing.rename(target)
            except OSError:
                if not target.exists():  # else another process was first
                    raise
            finally:
                rmtree(passing, ignore_errors=True)
        return target


def _fits(store: DiskBlockStore, manifest: Manifest, base: str) -> bool:
    """Whether a model is a LoRA adapter for a base that is called so."""
    config = next((file for file in manifest.files if file.path == CONFIG), None)
    if config is None:
        return False
    try:
        tree = json.loads(b"".join(bytes(store.get(piece.block_id)) for piece in config.pieces))
    except ValueError:
        return False
    if not isinstance(tree, dict) or tree.get("peft_type") != "LORA":
        return False
    bound = None if manifest.base is None else manifest.base.name
    return base in (tree.get("base_model_name_or_path"), bound)


def adapter_number(folder: Path) -> int:
    """The number by which vLLM knows an adapter: from its name and content, 1 to 2^31 - 1."""
    return int.from_bytes(blake3(folder.name.encode()).digest(length=4), "big") % (2**31 - 1) + 1


def resolver_class() -> Any:  # noqa: ANN401 - a class of vLLM's
    """The resolver, as a class of the vLLM that is installed."""
    base = import_module("vllm.lora.resolver").LoRAResolver
    request_class = import_module("vllm.lora.request").LoRARequest

    class PBStoreResolver(base):  # type: ignore[misc, valid-type]
        """Adapters from a store, a node or an object store."""

        def __init__(self, folders: AdapterFolders) -> None:
            self.folders = folders

        async def resolve_lora(self, base_model_name: str, lora_name: str) -> Any:  # noqa: ANN401
            """See `vllm.lora.resolver.LoRAResolver`."""
            folder = await asyncio.to_thread(self.folders.find, base_model_name, lora_name)
            if folder is None:
                return None
            return request_class(
                lora_name=lora_name, lora_int_id=adapter_number(folder), lora_path=str(folder)
            )

    return PBStoreResolver


def register() -> None:
    """Enter the resolver in vLLM's registry, if `PBCAST_PLACE` says where adapters are.

    They are checked out into `PBCAST_LORA_FOLDER`, by default `~/.cache/pbcast/lora`.
    """
    place = place_named()
    if not place:
        log.warning("%s is not set: no adapters of pbcast are resolved", PLACE)
        return
    default = Path.home() / ".cache" / "pbcast" / "lora"
    folder = Path(os.environ.get("PBCAST_LORA_FOLDER") or default)
    folder.mkdir(parents=True, exist_ok=True)
    folders = AdapterFolders(place, folder, os.environ.get("PBCAST_TOKEN"))
    registry = import_module("vllm.lora.resolver").LoRAResolverRegistry
    registry.register_resolver(NAME, resolver_class()(folders))
