"""The origin: the store of all models, which gives blocks, ranges of them, and manifests."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from demo.emulation.desk import Desk
from demo.emulation.wire.air import part_of
from demo.emulation.wire.ask import Answer, Verb, control_routes
from demo.emulation.wire.offers import OfferedLibrary, Offers
from demo.parts import CodedPart, Part, alone_form, cut
from pbstore import BlockId, DiskBlockStore, StoredBlock
from pbstore.serve.app import create_app
from pbstore.serve.run import App


class OriginRole:
    """Serves a store that stays its owner's.

    Args:
        store: Every model of the run.
    """

    def __init__(self, store: DiskBlockStore) -> None:
        self._store, self._desk = store, Desk("origin")
        self._offers = Offers(self._give)
        self._last: tuple[tuple[BlockId, bool], StoredBlock] | None = None
        self._is_deaf = False
        self.app: App = create_app(
            OfferedLibrary(store, self._offers), groups=[control_routes(self._verbs(), self._deaf)]
        )

    def close(self) -> None:
        """Forget all offers."""
        self._offers.forget()
        self._desk.close()

    def _verbs(self) -> Mapping[str, Verb]:
        return {
            "hello": lambda _: {},
            "offer": self._offer,
            "ping": lambda _: {},
            "flush": lambda _: {},
            "fault": self._fault,
        }

    def _offer(self, question: Mapping[str, Any]) -> Answer:
        return self._offers.offer([part_of(row) for row in question["parts"]], alone=bool(question["alone"]))

    def _fault(self, question: Mapping[str, Any]) -> Answer:
        self._is_deaf = question["fault"] == "cut-off"
        return {"about": str(question["fault"])}

    def _deaf(self) -> bool:
        return self._is_deaf

    def _give(self, part: Part, alone: bool) -> CodedPart:
        """A part; the block it is of is kept until another is asked for, since ranges follow one another."""
        return self._desk.do(partial(self._cut, part, alone))

    def _cut(self, part: Part, alone: bool) -> CodedPart:
        key = (part.block_id, alone)
        if self._last is None or self._last[0] != key:
            make = alone_form if alone else DiskBlockStore.export_block
            self._last = (key, make(self._store, part.block_id))
        return cut(self._last[1], part)
