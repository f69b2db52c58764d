"""The first slots of a run with real bytes: stores filled, blocks sent, models rebuilt, checked and run."""

import shutil
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from demo.bridge.radio_delay import RadioDelay
from demo.bridge.store_catalog import StoreCatalog
from demo.emulation import Device, Network
from demo.emulation.replay import replay_slot
from demo.jobs.config import RunConfig
from demo.jobs.report import DeliveryReport
from demo.jobs.simulate import play_scheme
from demo.zoo import ZooModel
from demo.zoo.inference import Inference, infer
from demo.zoo.progress import Step as Progress
from pbstore import DiskBlockStore
from policy.scenario import World
from policy.slot.dynamics import SlotOutcome


def deliver(
    config: RunConfig,
    cloud: DiskBlockStore,
    offer: StoreCatalog,
    world: World,
    zoo: Sequence[ZooModel],
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
        zoo: The original models, to compare with.
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
    check = _Check(cloud, zoo)
    deliveries: list[DeliveryReport] = []
    steps = play_scheme(
        config, world, config.emulated_scheme, RadioDelay(config.radio, world.trace, config.seed)
    )
    for step in islice(steps, config.emulated_slots):
        slot = step.outcome.slot
        replay_slot(
            network, offer.units, step.placement, step.outcome, world.devices(slot), world.alone(slot)
        )
        sent = _received_bytes(step.outcome, world.sizes(slot), world.trace.num_users)
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

    def __init__(self, cloud: DiskBlockStore, zoo: Sequence[ZooModel]) -> None:
        self._cloud = cloud
        self._zoo = {model.name: model for model in zoo}
        self._answers: dict[str, Inference] = {}

    def __call__(self, device: Device, name: str) -> tuple[bool, bool, str]:
        """Whether all files are equal, whether the answers are, and the device's answer for a human."""
        model = self._zoo[name]
        base = self._zoo[model.base] if model.kind == "adapter" and model.base else None
        rebuilt = device.reassemble(self._cloud.manifest(name), model.folder)
        made_base = device.reassemble(self._cloud.manifest(base.name), base.folder) if base else None
        if name not in self._answers:
            self._answers[name] = infer(model.folder, model, base_folder=base.folder if base else None)
        answer = infer(rebuilt.folder, model, base_folder=made_base.folder if made_base else None)
        device.discard_folders()
        sha256_ok = rebuilt.sha256_ok and (made_base is None or made_base.sha256_ok)
        return sha256_ok, answer.equals(self._answers[name]), answer.line
