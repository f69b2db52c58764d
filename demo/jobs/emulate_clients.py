"""Clients on devices: what `from_pretrained` loads from them, and whether it answers as the original."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from demo.emulation.clients import Answer, Question, ask_client
from demo.emulation.log.events import Answered, Delivered
from demo.emulation.runtime.base import device_place
from demo.emulation.world import World
from demo.jobs.originals import Original
from pbstore import DiskBlockStore


class Clients:
    """Asks clients on devices, up to a number of deliveries.

    Args:
        budget: Deliveries that are loaded, those of models that were not yet loaded first.
        store: Every model, for originals that have no folder.
        originals: What answers are compared with.
        scratch: Where such originals are written.
    """

    def __init__(
        self, budget: int, store: DiskBlockStore, originals: Mapping[str, Original], scratch: Path
    ) -> None:
        self._left, self._store, self._originals, self._scratch = budget, store, originals, scratch
        self._expected: dict[str, Answer] = {}
        self._fresh: list[Delivered] = []

    def note(self, event: object) -> None:
        """Take an event of the run."""
        if isinstance(event, Delivered):
            self._fresh.append(event)

    def ask(self, world: World) -> None:
        """Have clients load some of what was delivered since the last time, and log what they say."""
        fresh, self._fresh = self._fresh, []
        fresh.sort(key=lambda one: (one.model in self._expected, one.user))
        chosen: dict[int, Delivered] = {}
        for delivery in fresh:
            if len(chosen) < self._left and device_place(delivery.user) in world.urls:
                chosen.setdefault(delivery.user, delivery)
        self._left -= len(chosen)
        if chosen:
            self._run(world, list(chosen.values()))

    def _run(self, world: World, chosen: list[Delivered]) -> None:
        """Clients and, beside them, the originals."""
        new = list(dict.fromkeys(one.model for one in chosen if one.model not in self._expected))
        with ThreadPoolExecutor(2) as pool:
            originals = pool.submit(ask_client, [self._original(name) for name in new], None) if new else None
            answers = list(pool.map(lambda one: self._on_device(world, one), chosen))
            if originals is not None:
                self._expected.update(zip(new, originals.result(), strict=True))
        for delivery, (answer, fetched) in zip(chosen, answers, strict=True):
            world.log.write(
                Answered(
                    slot=delivery.slot,
                    user=delivery.user,
                    model=delivery.model,
                    inference_equal=answer.sha256 == self._expected[delivery.model].sha256,
                    unicast_weight_bytes=fetched,
                    answer=answer.line,
                    seconds=answer.seconds,
                )
            )

    def _on_device(self, world: World, delivery: Delivered) -> tuple[Answer, int]:
        """What a client on a device answers, and the bytes of blocks that the device fetched meanwhile."""
        place = device_place(delivery.user)
        before = self._fetched(world, place)
        question = Question(delivery.model, self._originals[delivery.model].base)
        answer = ask_client([question], world.urls[place])[0]
        return answer, self._fetched(world, place) - before

    def _fetched(self, world: World, place: str) -> int:
        answer = world.ask(place, "ping")
        return 0 if answer is None else int(answer["block_bytes"])

    def _original(self, name: str) -> Question:
        base = self._originals[name].base
        return Question(str(self._folder(name)), None if base is None else str(self._folder(base)))

    def _folder(self, name: str) -> Path:
        model = self._originals[name]
        if model.folder is not None:
            return model.folder.resolve()
        folder = self._scratch / name
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            self._store.checkout(name, folder)
        return folder.resolve()
