"""Programs that load a model from an edge node itself: they are served at once, and seen as demand."""

from collections.abc import Callable, Iterable, Iterator

from pbstore import BlockId, BlockInfo, DiskBlockStore
from pbstore.serve.fetch.node import NodeLibrary
from pbstore.serve.library import Revision
from pbstore.serve.library.library import MAIN
from pbstore.serve.settings import ServeSettings


class PlacementOnly:
    """A `CachePolicy` that leaves the cache to the placement: what clients make a node fetch is not kept."""

    def wants(self, info: BlockInfo) -> bool:
        """See `CachePolicy`."""
        return False

    def used(self, block_ids: Iterable[BlockId]) -> None:
        """See `CachePolicy`."""

    def passed(self, block_id: BlockId) -> None:
        """See `CachePolicy`."""

    def first_to_go(self, coming: BlockId) -> Iterator[BlockId]:
        """See `CachePolicy`."""
        return iter(())

    def gone(self, block_id: BlockId) -> None:
        """See `CachePolicy`."""


class VisitedLibrary(NodeLibrary):
    """What a node gives to programs: what it caches, and the rest from the origin.

    Nothing of that is kept by itself. Each model that is asked for is told, so that the placement can bring
    it here, as what users ask for.

    Args:
        store: The node's cache.
        origin_url: Where the rest comes from.
        visited: Told the name of a model that is there and was asked for, whenever anything of it is.
    """

    def __init__(self, store: DiskBlockStore, origin_url: str, visited: Callable[[str], None]) -> None:
        super().__init__(
            store, upstream=origin_url, settings=ServeSettings(readers=2), policy=PlacementOnly()
        )
        self._visited = visited

    async def revision(self, name: str, revision: str = MAIN) -> Revision:
        """See `Library`."""
        there = await super().revision(name, revision)
        self._visited(name)
        return there
