"""Event logs for tests: the sample of a real run, and long ones that are made up."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from demo.emulation.log import LogWriter
from demo.emulation.log.events import (
    Broadcast,
    Decided,
    Delivered,
    Event,
    ModelAbout,
    NodeAbout,
    Requested,
    SlotBegan,
    Started,
    Transferred,
)

SAMPLE = Path(__file__).parents[3] / "demo" / "emulation" / "log" / "sample.jsonl"
UNITS, NODES, USERS = 120, 4, 12
HOSTILE = '<img src=x onerror="window.hacked=1">'


def started(models: int = 8) -> Started:
    rng = np.random.default_rng(0)
    sizes = rng.integers(10_000, 3_000_000, UNITS).tolist()
    abouts = []
    for at in range(models):
        units = sorted({*range(0, UNITS, 2), *rng.choice(UNITS, 12).tolist()})
        name = HOSTILE if at == models - 1 else f"me/model-{at}"
        base = "me/model-0" if at else None
        about = ModelAbout(
            name=name,
            base=base,
            kind="full-fine-tune",
            raw_bytes=90_000_000,
            files_sha256=f"{at:064x}",
            units=tuple(units),
        )
        abouts.append(about)
    places = [(125.0, 125.0), (375.0, 125.0), (125.0, 375.0), (375.0, 375.0)]
    nodes = tuple(
        NodeAbout(node=n, x_m=x, y_m=y, capacity_bytes=60_000_000) for n, (x, y) in enumerate(places)
    )
    return Started(
        version=1,
        seed=0,
        runtime="threads",
        links="plain",
        scheme="learned",
        pace=1.0,
        loss=0.0,
        num_slots=1_000,
        slot_s=10.0,
        area_m=500.0,
        num_users=USERS,
        nodes=nodes,
        models=tuple(abouts),
        unit_bytes=tuple(sizes),
        settings={},
    )


def events(count: int) -> Iterator[Event]:
    """A start and so many lines of an endless run."""
    rng, run = np.random.default_rng(1), started()
    yield run
    slot = -1
    for at in range(count):
        kind = at % 25
        user, node, unit = (int(rng.integers(most)) for most in (USERS, NODES, UNITS))
        if kind == 0:
            slot += 1
            places = tuple((float(x), float(y)) for x, y in rng.uniform(0, 500, (USERS, 2)))
            yield SlotBegan(slot=slot, user_xy=places)
        elif kind in (1, 2):
            added = tuple(sorted({int(one) for one in rng.choice(UNITS, 4)}))
            yield Decided(
                slot=slot,
                node=node,
                added=added,
                dropped=(),
                held_bytes=int(rng.integers(60_000_000)),
                worth=tuple(rng.uniform(0, 2, len(added)).tolist()),
                why=HOSTILE,
                decision_ms=1.0,
            )
        elif kind in (3, 4):
            yield Requested(slot=slot, user=user, model=run.models[at % 8].name, node=node, source="trace")
        elif kind < 12:
            yield Transferred(
                slot=slot,
                unit=unit,
                form="kept",
                source=node - 1,
                target=node,
                cause="serve",
                payload_bytes=run.unit_bytes[unit],
                started_s=0.0,
                ended_s=0.1,
            )
        elif kind < 23:
            yield Broadcast(
                slot=slot,
                units=(unit,),
                form="kept",
                holders=(node, (node + 1) % NODES),
                users=(user, (user + 3) % USERS),
                rate_bit_s=4e8,
                bound_bit_s=4.1e8,
                payload_bytes=run.unit_bytes[unit],
                wire_bytes=run.unit_bytes[unit] + 1000,
                repair_bytes=0,
                started_s=0.0,
                ended_s=0.1,
                blake3="0" * 64,
            )
        else:
            model = run.models[at % 8]
            yield Delivered(
                slot=slot,
                user=user,
                model=model.name,
                delay_s=float(rng.uniform(0.2, 3)),
                computed_delay_s=1.0,
                wait_s=0.0,
                received_bytes=7_000_000,
                unicast_weight_bytes=0,
                files_sha256=model.files_sha256,
                sha256_ok=True,
                inference_equal=True,
                answer=HOSTILE,
            )


def write_log(path: Path, count: int) -> None:
    """A long log at once."""
    with LogWriter(path) as writer:
        for event in events(count):
            writer.write(event)


def write_slowly(path: Path, before: int, count: int, each_s: float) -> None:
    """First so many lines at once, then more, one in each interval."""
    with LogWriter(path) as writer:
        began = 0.0
        for number, event in enumerate(events(before + count)):
            if number == before:
                began = time.monotonic()
            if number > before:
                time.sleep(max(0.0, began + (number - before) * each_s - time.monotonic()))
            writer.write(event)
