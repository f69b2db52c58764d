"""A user's device: hears broadcasts, checks and keeps them, and serves what it has to clients on it."""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from demo.emulation.desk import Desk, DeskClosedError
from demo.emulation.device import Device, files_digest
from demo.emulation.faults.inside import break_role
from demo.emulation.log.events import Rejected
from demo.emulation.roles.teller import Teller
from demo.emulation.wire.air import AirError, AirObject, part_of
from demo.emulation.wire.ask import Answer, NotReachedError, RefusedError, Verb, Wire, control_routes
from demo.emulation.wire.band import Band
from demo.parts import CodedPart, Part
from pbstore import (
    BlockId,
    BlockMissingError,
    DiskBlockStore,
    IntegrityError,
    Manifest,
    ModelMissingError,
    ModelUnreachableError,
)
from pbstore.serve.app import create_app
from pbstore.serve.library import Revision, StoreLibrary
from pbstore.serve.library.library import MAIN
from pbstore.serve.run import App

log = logging.getLogger(__name__)
CLIENT_S = 120.0
"""How long a client of the device waits for a model that is asked for, s."""


@dataclass(slots=True)
class Want:
    """A model that was asked for and is not checked yet."""

    slot: int
    model: str
    manifests: tuple[Manifest, ...]
    missing: set[BlockId]
    asked_s: float
    """When the user asked, s; when the device was told of it, if that is not known any more."""
    told_s: float
    """When the device was told what is coming, s."""
    by_air: bool
    """Whether anything has to come by the air."""
    done_s: float | None = None
    """When all was there."""
    received_bytes: int = 0


class DeviceLibrary(StoreLibrary):
    """What the device has, for clients on it; what it has not is asked for, and comes by the next broadcast.

    Args:
        store: The device's store.
        ask_for: Asks for a model by name, and returns when it is here, or will not come.
    """

    def __init__(self, store: DiskBlockStore, ask_for: Callable[[str], None]) -> None:
        super().__init__(store)
        self._ask_for = ask_for

    async def revision(self, name: str, revision: str = MAIN) -> Revision:
        """See `Library`."""
        try:
            return await super().revision(name, revision)
        except ModelMissingError:
            await asyncio.get_running_loop().run_in_executor(None, self._ask_for, name)
        return await super().revision(name, revision)

    async def hash_ahead(self) -> None:
        """See `Library`: hashes of files are computed when they are asked for."""


@dataclass(slots=True)
class _State:
    """What the device waits for."""

    wants: list[Want] = field(default_factory=list)
    asked_s: dict[int, float] = field(default_factory=dict)
    """When the user asked, by slot, until the device is told what is coming."""
    slot: int = -1


class DeviceRole:
    """One device.

    Args:
        user: Whose it is.
        folder: Where its store is.
        band: The air.
        comes_back: Whether it finds in its store what it had.
    """

    def __init__(self, user: int, folder: Path, band: Band, *, comes_back: bool = False) -> None:
        self.user, self._band = user, band
        self.wire = Wire()
        self._teller = Teller(self.wire)
        self._device = Device(folder, comes_back=comes_back)
        self._state, self._desk = _State(), Desk(f"device {user}")
        library = DeviceLibrary(self._device.store, self._ask_for)
        band.listen(user, self.hear)
        self.app: App = create_app(library, groups=[control_routes(self._verbs(), lambda: self.wire.cut)])

    def close(self) -> None:
        """Let go of connections and files."""
        self._band.leave(self.user)
        self.wire.close()
        self._desk.close(self._device.store.close)

    def _verbs(self) -> Mapping[str, Verb]:
        return {
            "hello": self._hello,
            "ping": lambda _: {"block_bytes": self.wire.block_bytes},
            "flush": self._flush,
            "ask": self._ask,
            "prepare": lambda one: self._desk.do(partial(self._prepare, one)),
            "finish": self._finish,
            "fault": self._fault,
        }

    def _ask_for(self, model: str) -> None:
        """Ask for a model that a client wants and the device has not; it comes by the next broadcast.

        Raises:
            ModelUnreachableError: If it does not come in time; whoever asked may ask again.
        """
        try:
            self.wire.ask(self._teller.collector, "client", CLIENT_S, user=self.user, model=model)
        except RefusedError as error:
            log.info("%s", error)
        except NotReachedError as error:
            raise ModelUnreachableError(model, str(error)) from None

    def hear(self, data: bytes, last_bit_at: float) -> None:
        """Take an object from the air; what is wrong in it is thrown away, and told.

        Args:
            data: The object.
            last_bit_at: When its last bit came, `time.monotonic`.
        """
        if self.wire.cut:
            return
        try:
            parts = AirObject.decode(data).parts
            self._desk.do(lambda: self._keep(parts, self._teller.at_s(last_bit_at)))
        except AirError as error:
            self._reject(str(error))
        except DeskClosedError as error:
            log.info("%s", error)

    def _keep(self, parts: Sequence[CodedPart], now: float) -> None:
        with self._device.store.disk.writing():
            for coded in parts:
                try:
                    self._device.receive(coded)
                except (IntegrityError, BlockMissingError) as error:
                    self._reject(str(error))
            self._note(sum(len(coded.payload) for coded in parts), now)

    def _note(self, received_bytes: int, now: float) -> None:
        """See which wants have come to be whole by what came now."""
        store = self._device.store
        for want in self._state.wants:
            if want.missing:
                want.received_bytes += received_bytes
                want.missing = {block_id for block_id in want.missing if not store.has(block_id)}
                if not want.missing:
                    want.done_s = now

    def _flush(self, question: Mapping[str, Any]) -> Answer:
        self._teller.flush()
        return {}

    def _hello(self, question: Mapping[str, Any]) -> Answer:
        self._teller.meet(str(question["collector"]), float(question["now_s"]))
        return {}

    def _ask(self, question: Mapping[str, Any]) -> Answer:
        """Tell the nearest node that answers where the device is, and what is asked for (-1: nothing)."""
        told = {name: question[name] for name in ("slot", "xy", "model", "source")}
        if int(question["model"]) >= 0:
            self._state.asked_s[int(question["slot"])] = self._teller.now_s()
        for url in question["nodes"]:
            try:
                answer = self.wire.ask(str(url), "request", 5.0, user=self.user, **told)
                return {"node": answer["node"]}
            except NotReachedError as error:
                log.info("%s", error)
        raise NotReachedError("every node", "request", f"device {self.user} is alone")

    def _prepare(self, question: Mapping[str, Any]) -> Answer:
        """Make room, and learn what a model that was asked for is made of."""
        manifests = tuple(Manifest.from_json(text) for text in question["manifests"])
        slot, model = int(question["slot"]), str(question["model"])
        told_s = self._teller.now_s()
        if any((want.slot, want.model) == (slot, model) for want in self._state.wants):
            return {}
        self._state.slot = slot
        if question["keep"] is not None and not self._state.wants:
            self._make_room([part_of(row) for row in question["keep"]])
        blocks = {block_id for manifest in manifests for block_id in manifest.block_ids()}
        missing = {block_id for block_id in blocks if not self._device.store.has(block_id)}
        asked_s = self._state.asked_s.pop(slot, told_s)
        want = Want(slot, model, manifests, missing, asked_s, told_s, by_air=bool(missing))
        want.done_s = None if missing else self._teller.now_s()
        self._state.wants.append(want)
        return {}

    def _make_room(self, counted_on: Sequence[Part]) -> None:
        """Keep what the plan counts on, as far as it is here, and let go of the rest."""
        with self._device.store.disk.writing():
            self._device.keep(frozenset(part for part in counted_on if self._device.has(part)))

    def _finish(self, question: Mapping[str, Any]) -> Answer:
        """Check and file every model that is whole; what the others lack."""
        self._band.settle(self.user)
        answer = self._desk.do(self._check)
        self._teller.flush()
        return answer

    def _check(self) -> Answer:
        whole = [want for want in self._state.wants if not want.missing]
        done = [row for want in whole if (row := self._checked(want)) is not None]
        self._state.wants = [want for want in self._state.wants if want.missing]
        lacks = sorted({block_id for want in self._state.wants for block_id in want.missing})
        return {"done": done, "lacks": lacks}

    def _checked(self, want: Want) -> dict[str, Any] | None:
        """A delivery, with the hashes of all files as they are here; None if a block is damaged."""
        try:
            with self._device.store.disk.writing():
                for manifest in want.manifests:
                    self._device.store.put_manifest(manifest)
            hashes = [self._hashes(manifest) for manifest in want.manifests]
        except IntegrityError as error:
            self._damaged(want, error)
            return None
        wanted = [{entry.path: entry.sha256 for entry in manifest.files} for manifest in want.manifests]
        return {
            "slot": want.slot,
            "model": want.model,
            "done_s": want.done_s,
            "told_s": want.told_s,
            "by_air": want.by_air,
            "lived_s": self._teller.now_s() - want.asked_s,
            "waited_s": want.told_s - want.asked_s,
            "received_bytes": want.received_bytes,
            "unicast_weight_bytes": self.wire.block_bytes,
            "files_sha256": files_digest(hashes[0]),
            "sha256_ok": hashes == wanted,
        }

    def _damaged(self, want: Want, error: IntegrityError) -> None:
        """Forget what cannot be read on the device's disk, and what is made of it; it is asked for again."""
        self._reject(str(error))
        self._device.forget_damaged()
        blocks = {block_id for manifest in want.manifests for block_id in manifest.block_ids()}
        want.missing = {block_id for block_id in blocks if not self._device.store.has(block_id)}
        want.by_air = want.by_air or bool(want.missing)

    def _hashes(self, manifest: Manifest) -> dict[str, str]:
        """SHA-256 of every file of a model, read out of the store."""
        hashes = {}
        for entry in manifest.files:
            digest = hashlib.sha256()
            for piece in entry.pieces:
                digest.update(self._device.store.get(piece.block_id))
            hashes[entry.path] = digest.hexdigest()
        return hashes

    def _reject(self, why: str) -> None:
        self._teller.tell(
            Rejected(slot=self._state.slot, place=f"device {self.user}", unit=-1, why=why[:200])
        )

    def packs(self) -> Path:
        """See `Breakable`."""
        return Path(self._device.store.path)

    def step_clock(self, seconds: float) -> None:
        """See `Breakable`."""
        self._teller.step_s += seconds

    def _fault(self, question: Mapping[str, Any]) -> Answer:
        return break_role(self, question)
