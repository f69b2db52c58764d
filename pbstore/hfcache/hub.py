"""Models of a Hub, by huggingface_hub's own client: fetched into a passing cache, then stored."""

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from pbstore.disk.index.revisions import MAIN
from pbstore.disk.store import DiskBlockStore
from pbstore.errors import HubError, ModelMissingError, ModelUnreachableError, RevisionMissingError
from pbstore.folders.ingest import AddReport
from pbstore.folders.scratch import scratch
from pbstore.hfcache.cache import import_cache, look_into
from pbstore.manifest import check_name

SCHEME = "hf://"
PREFIX = "pbcast-hub-"
"""How passing caches are called."""
_ADDRESS = re.compile(r"hf://(?P<name>[^@]+?)/?(?:@(?P<revision>.+))?")


class HubAddress(NamedTuple):
    """A model of a Hub."""

    name: str
    revision: str

    @classmethod
    def parse(cls, text: str) -> "HubAddress":
        """Read `hf://ORG/MODEL` or `hf://ORG/MODEL@REVISION`.

        Raises:
            ValueError: If it is no such text.
        """
        parts = _ADDRESS.fullmatch(text)
        if parts is None:
            raise ValueError(f"expected hf://ORG/MODEL or hf://ORG/MODEL@REVISION, got {text!r}")
        return cls(check_name(parts["name"]), parts["revision"] or MAIN)


def add_from_hub(
    store: DiskBlockStore,
    address: HubAddress,
    name: str | None = None,
    *,
    progress: Callable[[int], None] | None = None,
) -> AddReport:
    """Fetch a model from the Hub of `HF_ENDPOINT` and store it; the Hub's commit becomes a tag of it.

    The files lie in the temporary folder meanwhile, which needs room for them.

    Args:
        store: Where it goes.
        address: The model.
        name: What it is filed as; by default as on the Hub.
        progress: Called with the bytes just stored.

    Raises:
        ModelMissingError: If the Hub has no such model, or none that this token may see.
        RevisionMissingError: If it has, but not this revision.
        ModelUnreachableError: If the Hub cannot be reached.
        HubError: If huggingface_hub is not installed, or fails otherwise.
    """
    with _fetched(address) as cache:
        content = look_into(cache)
        snapshots = tuple(replace(item, name=name or item.name) for item in content.snapshots)
        report = import_cache(store, replace(content, snapshots=snapshots), progress=progress)
    if report.failed:
        raise HubError(address.name, report.failed[0].error)
    return report.models[-1]


@contextmanager
def _fetched(address: HubAddress) -> Iterator[Path]:
    """A passing cache with one model."""
    try:
        from huggingface_hub import errors as hub_errors
        from huggingface_hub import snapshot_download
    except ImportError:
        raise HubError(
            address.name, "huggingface_hub is not installed: pip install 'pbcast[torch]'"
        ) from None
    endpoint = os.environ.get("HF_ENDPOINT")
    with scratch(Path(tempfile.gettempdir()), PREFIX) as folder:
        try:
            snapshot_download(
                address.name, revision=address.revision, cache_dir=folder / "hub", endpoint=endpoint
            )
        except hub_errors.RevisionNotFoundError:
            raise RevisionMissingError(address.name, address.revision) from None
        except hub_errors.RepositoryNotFoundError:
            raise ModelMissingError(address.name, f"at {endpoint or 'the Hub'}") from None
        except (hub_errors.LocalEntryNotFoundError, hub_errors.OfflineModeIsEnabled, OSError) as error:
            if isinstance(error, hub_errors.HfHubHTTPError):
                raise HubError(address.name, str(error).splitlines()[0]) from error
            raise ModelUnreachableError(address.name, endpoint or "the Hub") from error
        yield folder / "hub"
