"""Slots worked by hand, and laws that every slot keeps."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.config import LinkConfig, Timing
from policy.errors import PlacementError
from policy.play.rollout import empty_placement, play_slot
from policy.scenario import load_scenario
from policy.slot.dynamics import SlotOutcome, serve_slot
from policy.slot.problem import SlotProblem
from policy.slot.tables import ServiceRules, to_masks
from policy.slot.timeline import CLOUD
from tests.fakes import ConstantDelay, CountDelay, fixed_catalog

LINKS = LinkConfig(backhaul_bit_s=80.0, cloud_bit_s=40.0)
_PLACES = {"link_free_s", "band_free_s", "air_bytes", "wire_bytes"}
NEEDS = np.array([[1, 1, 0], [1, 0, 1]], dtype=bool)


def _serve(timing: Timing, cached: list[list[int]], holders: list[list[int]], **more: object) -> SlotOutcome:
    problem = SlotProblem(
        slot=0,
        sizes_bytes=fixed_catalog().sizes_bytes,
        delay=more.pop("delay", ConstantDelay(rate=8.0)),  # type: ignore[arg-type]
        asked=np.array([True, True]),
        needs=NEEDS,
        cached=np.array(cached, dtype=bool),
        links=LINKS,
        timing=timing,
        rules=more.pop("rules", ServiceRules()),  # type: ignore[arg-type]
        **{name: more.pop(name) for name in _PLACES & more.keys()},  # type: ignore[arg-type]
    )
    return serve_slot(problem, np.array(holders, dtype=bool), **more)  # type: ignore[arg-type]


def test_additive_by_hand() -> None:
    """Block 0: cloud 20 s, air 100 s; block 2: air 25 s; block 1: copied 5 s, air 50 s. Order 0, 2, 1."""
    out = _serve("additive", [[0, 1, 0], [0, 0, 1]], [[1, 1, 0], [0, 1, 1]])

    assert out.block_delay_s.tolist() == [120.0, 55.0, 25.0]
    assert [(c.block, c.start_s, c.end_s) for c in out.broadcasts] == [
        (0, 20, 120),
        (2, 120, 145),
        (1, 150, 200),
    ]
    assert out.user_delay_s.tolist() == [200.0, 145.0]
    assert [(t.block, t.source, t.target) for t in out.transfers] == [(0, CLOUD, 0), (1, 0, 1)]
    assert (out.migrated_bytes, out.cloud_bytes, out.sent_bytes, out.airtime_s) == (50, 100, 175, 175.0)
    assert out.edge_hit.tolist() == [False, False]
    assert out.total_delay_s == 200.0


def test_sequential_and_pipelined_by_hand() -> None:
    cached, holders = [[0, 1, 0], [0, 0, 1]], [[1, 1, 0], [0, 1, 1]]
    first_all = _serve("sequential", cached, holders)
    overlap = _serve("pipelined", cached, holders)

    assert [(c.block, c.start_s) for c in first_all.broadcasts] == [(0, 20), (2, 120), (1, 145)]
    assert [(c.block, c.start_s) for c in overlap.broadcasts] == [(2, 0), (0, 25), (1, 125)]
    assert overlap.user_delay_s.tolist() == [175.0, 125.0]
    given_order = _serve("pipelined", cached, holders, order=np.array([2, 1, 0]))
    assert [(c.block, c.start_s, c.end_s) for c in given_order.broadcasts] == [
        (2, 0, 25),
        (1, 25, 75),
        (0, 75, 175),
    ]


def test_a_slot_starts_when_its_lines_are_free() -> None:
    cached, holders = [[0, 1, 0], [0, 0, 1]], [[1, 1, 0], [0, 1, 1]]
    late = _serve("pipelined", cached, holders, link_free_s=np.array([30.0, 7.0]), band_free_s=3.0)
    one_by_one = _serve("additive", cached, holders, link_free_s=np.array([30.0, 7.0]), band_free_s=3.0)

    assert [(t.block, t.target, t.start_s) for t in late.transfers] == [(1, 1, 7), (0, 0, 30)]
    assert [(c.block, c.start_s) for c in late.broadcasts] == [(2, 3), (0, 50), (1, 150)]
    assert one_by_one.transfers[0].start_s == 30
    for field, bad in (("link_free_s", np.zeros(3)), ("band_free_s", -1.0), ("link_free_s", -np.ones(2))):
        with pytest.raises(ValueError, match="link_free_s"):
            _serve("pipelined", cached, holders, **{field: bad})


def test_a_block_may_weigh_less_on_the_air_than_on_the_wire() -> None:
    cached, holders = [[0, 1, 0], [0, 0, 1]], [[1, 1, 0], [0, 1, 1]]
    light, wire = np.array([50, 25, 10]), np.array([10, 10, 10])
    out = _serve("additive", cached, holders, air_bytes=light, wire_bytes=wire)

    assert out.block_delay_s.tolist() == [52.0, 26.0, 10.0]
    assert (out.migrated_bytes, out.cloud_bytes, out.sent_bytes) == (10, 10, 85)


def test_comp_and_shared_air_switch_off() -> None:
    both = [[1, 1, 1], [1, 1, 1]]
    full = _serve("additive", both, both, delay=CountDelay())
    single = _serve("additive", both, both, delay=CountDelay(), rules=ServiceRules(comp=False))
    unicast = _serve("additive", both, both, delay=CountDelay(), rules=ServiceRules(share_air=False))

    assert full.airtime_s == 87.5
    assert single.airtime_s == 175.0
    assert all(len(c.holders) == 1 for c in single.broadcasts)
    assert unicast.airtime_s == 137.5
    assert all(len(c.users) == 1 for c in unicast.broadcasts)


def test_impossible_holders_are_refused() -> None:
    with pytest.raises(PlacementError, match="needs a holder"):
        _serve("additive", [[0, 0, 0], [0, 0, 0]], [[1, 1, 0], [0, 0, 0]])
    with pytest.raises(PlacementError, match="must contain"):
        _serve("additive", [[1, 1, 1], [0, 0, 0]], [[0, 1, 1], [1, 0, 0]])
    with pytest.raises(PlacementError, match="nobody can send"):
        _serve("additive", [[1, 1, 1], [0, 0, 0]], [[1, 1, 1], [0, 0, 0]], delay=ConstantDelay(0.0))


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    timing=st.sampled_from(["additive", "sequential", "pipelined"]),
    rules=st.builds(ServiceRules, comp=st.booleans(), migration=st.booleans(), share_air=st.booleans()),
)
def test_laws_of_a_slot(seed: int, timing: Timing, rules: ServiceRules) -> None:
    rng = np.random.default_rng(seed)
    world = load_scenario("findings").world(seed)
    cached = np.zeros((4, 60), dtype=bool)
    cached[:, rng.choice(60, size=10, replace=False)] = rng.random((4, 10)) < 0.7
    out = play_slot(world, 0, empty_placement(world), cached, rules)
    needs, links = world.needs(0), world.scenario.config.links
    table = world.table(0, rules).cost_s[np.arange(60), to_masks(cached)]

    # the table and the played slot agree, block by block
    assert out.block_delay_s == pytest.approx(table)
    # every user gets exactly what it misses, from nodes that have it by then
    got = np.zeros_like(needs)
    for cast in out.broadcasts:
        got[list(cast.users), cast.block] = True
        for node in cast.holders:
            came = [t.end_s for t in out.transfers if (t.block, t.target) == (cast.block, node)]
            assert cached[node, cast.block] or (came and came[0] <= cast.start_s + 1e-9)
    assert (got == needs).all()
    # the band and each incoming link carry one thing at a time
    for line in [out.broadcasts, *([t for t in out.transfers if t.target == n] for n in range(4))]:
        ordered = sorted(line, key=lambda item: item.start_s)
        assert all(a.end_s <= b.start_s + 1e-9 for a, b in itertools.pairwise(ordered))
    # what is moved takes its time
    for t in out.transfers:
        rate = links.cloud_bit_s if t.source == CLOUD else links.backhaul_bit_s
        assert t.end_s - t.start_s == pytest.approx(8 * world.scenario.catalog.sizes_bytes[t.block] / rate)
    assert out.user_delay_s.max(initial=0.0) <= out.total_delay_s + 1e-9


def test_overlap_never_hurts_the_last_user() -> None:
    for seed in range(8):
        world = load_scenario("findings").world(seed)
        nothing = empty_placement(world)
        holders = world.table(0).target[:, 0]
        ends = {}
        for timing in ("additive", "sequential", "pipelined"):
            problem = replace(world.problem(0, nothing), timing=timing)  # type: ignore[arg-type]
            out = serve_slot(problem, (holders >> np.arange(4)[:, None]) % 2 == 1)
            ends[timing] = out.user_delay_s.max()
        assert ends["pipelined"] <= ends["additive"] + 1e-9
        assert ends["pipelined"] <= ends["sequential"] + 1e-9
