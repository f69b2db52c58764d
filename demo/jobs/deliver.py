"""The first slots of a run with real bytes: stores filled, blocks sent, models rebuilt, checked and run."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from demo.bridge.store_catalog import StoreCatalog
from demo.emulation import Device, Network
from demo.emulation.log.events import COMPUTED, Started
from demo.emulation.replay import replay_slot
from demo.jobs.config import RunConfig
from demo.jobs.originals import Original
from demo.jobs.report import DeliveryReport
from demo.jobs.run_log import RunLog
from demo.jobs.simulate import play_scheme
from demo.jobs.started import started_of
from demo.zoo.answer import Inference, NotRunError
from demo.zoo.progress import Step as Progress
from pbstore import DiskBlockStore
from policy.scenario import World
from policy.schemes import Placement
from policy.slot.dynamics import SlotOutcome


def deliver(
    config: RunConfig,
    cloud: DiskBlockStore,
    offer: StoreCatalog,
    world: World,
    originals: Mapping[str, Original],
    folder: Path,
    progress: Progress,
    *,
    log: Path,
    keep_stores: bool = False,
) -> list[DeliveryReport]:
    """Replay the first slots of the run's chosen scheme between real stores.

    Args:
        config: Settings.
        cloud: Store with every model.
        offer: Its catalog.
        world: The simulated world.
        originals: The models by name, to compare with.
        folder: Where the stores of nodes and devices are made; replaced.
        progress: Called with slots done and slots in all.
        log: The event log; one that is there is replaced.
        keep_stores: Leave the stores as they are after the last slot; they take gigabytes.

    Returns:
        One report for every request of these slots.

    Raises:
        EmulationError: If bytes differ from the plan.
        IntegrityError: If a block is not what its id says.
    """
    shutil.rmtree(folder, ignore_errors=True)
    capacities = [int(size) for size in world.scenario.capacity_bytes]
    network = Network(cloud, folder, capacities, world.trace.num_users)
    check = _Check(cloud, originals, folder / "originals")
    deliveries: list[DeliveryReport] = []
    decided: list[Placement] = []
    steps, delay = play_scheme(config, world, config.emulated_scheme, listener=decided.append)
    with RunLog(log, _started(config, offer, originals), world, delay) as told:
        for step in islice(steps, config.emulated_slots):
            slot = step.outcome.slot
            moved = replay_slot(network, offer, step.placement, step.outcome, world.devices(slot))
            checked = [check(network.devices[user], row) for user, row in _rows(step.outcome, world)]
            told.slot(step, decided[-1].value, moved, checked)
            deliveries += [row for row, _ in checked]
            progress(slot + 1, config.emulated_slots)
        told.end()
    if not keep_stores:
        shutil.rmtree(folder)
    return deliveries


def _started(config: RunConfig, offer: StoreCatalog, originals: Mapping[str, Original]) -> Started:
    about = {"runtime": COMPUTED, "links": COMPUTED, "pace": 1.0, "loss": 0.0}
    slots, settings = config.emulated_slots, {"run": config.to_dict()}
    return started_of(config, offer, originals, **about, num_slots=slots, settings=settings)


def _rows(outcome: SlotOutcome, world: World) -> Iterator[tuple[int, DeliveryReport]]:
    """Each request of a slot by its user, as far as the plan knows it."""
    sizes = world.sizes(outcome.slot, outcome.alone)
    sent = _received_bytes(outcome, sizes, world.trace.num_users)
    for user in np.flatnonzero(outcome.asked).tolist():
        yield (
            user,
            DeliveryReport(
                model=world.scenario.catalog.model_names[world.trace.requests[outcome.slot, user]],
                user=user,
                slot=outcome.slot,
                delay_s=float(outcome.user_delay_s[user]),
                bytes_sent=int(sent[user]),
                sha256_ok=False,
                inference_equal=None,
                sample_output="",
            ),
        )


def _received_bytes(outcome: SlotOutcome, sizes_bytes: np.ndarray, num_users: int) -> np.ndarray:
    """Coded bytes that each device received in a slot, (users,)."""
    sent = np.zeros(num_users, dtype=np.int64)
    for cast in outcome.broadcasts:
        sent[list(cast.users)] += sizes_bytes[cast.block]
    return sent


class _Check:
    """Rebuilds a model on a device and compares its files and its answers with the original's."""

    def __init__(self, cloud: DiskBlockStore, originals: Mapping[str, Original], scratch: Path) -> None:
        self._cloud, self._originals, self._scratch = cloud, originals, scratch
        self._answers: dict[str, Inference | NotRunError] = {}

    def __call__(self, device: Device, row: DeliveryReport) -> tuple[DeliveryReport, str]:
        """The delivery with what was found: files, answers, and the device's answer for a human.

        Returns:
            It, and the hash of its files.
        """
        sha256_ok, equal, line, digest = self._found(device, row.model)
        return replace(row, sha256_ok=sha256_ok, inference_equal=equal, sample_output=line), digest

    def _found(self, device: Device, name: str) -> tuple[bool, bool | None, str, str]:
        model = self._originals[name]
        base = None if model.base is None else self._originals[model.base]
        rebuilt = device.reassemble(self._cloud.manifest(name), model.hashes)
        rebuilt_base = device.reassemble(self._cloud.manifest(base.row.model), base.hashes) if base else None
        sha256_ok = rebuilt.sha256_ok and (rebuilt_base is None or rebuilt_base.sha256_ok)
        if name not in self._answers:
            self._answers[name] = _answer(
                model, self._original(model), None if base is None else self._original(base)
            )
        expected = self._answers[name]
        answer = (
            expected
            if isinstance(expected, NotRunError)
            else _answer(model, rebuilt.folder, rebuilt_base.folder if rebuilt_base else None)
        )
        device.discard_folders()
        if isinstance(expected, NotRunError):
            return sha256_ok, None, f"not run: {expected}", rebuilt.files_sha256
        if isinstance(answer, NotRunError):  # the original runs, its copy does not
            return sha256_ok, False, f"not run: {answer}", rebuilt.files_sha256
        return sha256_ok, answer.equals(expected), answer.line, rebuilt.files_sha256

    def _original(self, model: Original) -> Path:
        if model.folder is not None:
            return model.folder
        folder = self._scratch / model.row.model
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            self._cloud.checkout(model.row.model, folder)
        return folder


def _answer(model: Original, folder: Path, base_folder: Path | None) -> Inference | NotRunError:
    if model.row.kind == "adapter" and base_folder is None:
        return NotRunError("its base is not in the store")
    try:
        return model.infer(folder, base_folder)
    except NotRunError as error:
        return error
