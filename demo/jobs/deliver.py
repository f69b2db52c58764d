"""The first slots of a run with real bytes: stores filled, blocks sent, models rebuilt, checked and run."""

import shutil
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import numpy as np

from demo.bridge.store_catalog import StoreCatalog
from demo.emulation import Device, Network
from demo.emulation.replay import replay_slot
from demo.jobs.config import RunConfig
from demo.jobs.originals import Original
from demo.jobs.report import DeliveryReport
from demo.jobs.simulate import play_scheme
from demo.zoo.anything import NotRunError
from demo.zoo.inference import Inference
from demo.zoo.progress import Step as Progress
from pbstore import DiskBlockStore
from policy.scenario import World
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
    steps, _ = play_scheme(config, world, config.emulated_scheme)
    for step in islice(steps, config.emulated_slots):
        slot = step.outcome.slot
        replay_slot(network, offer.units, step.placement, step.outcome, world.devices(slot))
        sizes = world.sizes(slot, step.outcome.alone)
        sent = _received_bytes(step.outcome, sizes, world.trace.num_users)
        for user in np.flatnonzero(step.outcome.asked).tolist():
            name = offer.catalog.model_names[world.trace.requests[slot, user]]
            sha256_ok, equal, line = check(network.devices[user], name)
            deliveries.append(
                DeliveryReport(
                    model=name,
                    user=user,
                    slot=slot,
                    delay_s=float(step.outcome.user_delay_s[user]),
                    bytes_sent=int(sent[user]),
                    sha256_ok=sha256_ok,
                    inference_equal=equal,
                    sample_output=line,
                )
            )
        progress(slot + 1, config.emulated_slots)
    if not keep_stores:
        shutil.rmtree(folder)
    return deliveries


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

    def __call__(self, device: Device, name: str) -> tuple[bool, bool | None, str]:
        """Whether all files are equal, whether the answers are, and the device's answer for a human."""
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
            return sha256_ok, None, f"not run: {expected}"
        if isinstance(answer, NotRunError):  # the original runs, its copy does not
            return sha256_ok, False, f"not run: {answer}"
        return sha256_ok, answer.equals(expected), answer.line

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
