"""A program that loads a model from an edge node itself is demand: decisions see it, and bring it here."""

from collections.abc import Sequence
from pathlib import Path

import httpx
import numpy as np

from demo.emulation.log import check_log, read_log
from demo.emulation.log.events import Broadcast, Decided, Event, Reported, Requested, Started
from demo.emulation.roles.mind import Row, key_of
from demo.emulation.runtime.base import node_place
from demo.emulation.world import Wanted, World
from demo.jobs.emulate_config import EmulateConfig
from demo.jobs.originals import of_store
from demo.jobs.run import offer_of
from demo.jobs.runtimes import runtime_of
from demo.jobs.stage import Stage, about_run
from pbstore import open_store
from tests.demo.emulation.conftest import small_run


def lived(store_path: Path, out: Path, visits: Sequence[int], model: str = "") -> list[Event]:
    """Events of two slots in which no user asks, and a program loads the model from some nodes."""
    config = EmulateConfig(run=small_run(store_path))
    with open_store(store_path, read_only=True) as store:
        originals = of_store(store)
        bases = {name: one.base for name, one in originals.items()}
        offer = offer_of(config.run, store, bases)
        stage = Stage(config=config, offer=offer, bases=bases, folder=out / "network")
        about = about_run(stage, originals, 2)
        nobody = Wanted(user_xy=np.full((3, 2), 250.0), requests=np.full(3, -1))
        with runtime_of(stage, store) as runtime, World(runtime, about, out / "events.jsonl") as world:
            for _ in range(2):
                for node in visits:
                    url = f"{world.urls[node_place(node)]}/{model}/resolve/main/model.safetensors"
                    assert [httpx.get(url, trust_env=False).status_code for _ in range(2)] == [200, 200]
                world.step(nobody)
            world.end()
    check_log(read_log(out / "events.jsonl")).raise_if_broken()
    return [line.event for line in read_log(out / "events.jsonl")]


def cached_in_the_end(events: Sequence[Event]) -> set[int]:
    """Units that some node has."""
    held: dict[int, set[int]] = {}
    for one in events:
        if isinstance(one, Decided):
            held[one.node] = (held.get(one.node, set()) - set(one.dropped)) | set(one.added)
    return set().union(*held.values())


def test_what_programs_load_from_a_node_comes_to_be_cached(family: Path, tmp_path: Path) -> None:
    alone = lived(family, tmp_path / "alone", ())
    assert {one.visits for one in alone if isinstance(one, Reported)} == {()}
    about, left = alone[0], cached_in_the_end(alone)
    assert isinstance(about, Started)
    number, model = next(
        (number, one) for number, one in enumerate(about.models) if not left.issuperset(one.units)
    )
    seen = lived(family, tmp_path / "seen", (1,), model.name)
    assert cached_in_the_end(seen).issuperset(model.units)
    assert {(one.node, one.visits) for one in seen if isinstance(one, Reported)} == {(0, ()), (1, (number,))}
    assert not [one for one in seen if isinstance(one, Requested | Broadcast)], "it is no delivery"


def test_a_visit_is_a_request_of_the_nearest_user_who_has_none() -> None:
    places = np.array([[0.0, 0.0], [10.0, 0.0], [20.0, 0.0], [30.0, 0.0]])
    nodes = np.array([[0.0, 1.0], [29.0, 0.0]])
    row = Row(places, np.array([5, -1, -1, -1]), ((0, 7), (1, 7), (1, 8)))
    assert row.seen(nodes).tolist() == [5, 7, 8, 7]
    assert row.requests.tolist() == [5, -1, -1, -1]
    full = Row(places, np.array([1, 2, 3, 4]), ((0, 7),))
    assert full.seen(nodes).tolist() == [1, 2, 3, 4]
    assert Row.from_dict(row.to_dict()).visits == row.visits
    assert len({key_of([row]), key_of([Row(places, row.requests)]), key_of([full])}) == 3
