"""Models in part: orders of arrival, tiers, nested models, versions, two blocks at once."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import nn

from demo.experiments.papers import superposed
from demo.experiments.papers.models.nested import cut, layer_of
from demo.experiments.papers.models.received import ORDERS, Device, order_of, pieces_of, received
from demo.experiments.papers.models.tiers import AT_ONCE, TIERS, tiered
from demo.experiments.papers.models.versions import staleness
from demo.experiments.papers.two_blocks import BESIDE, BETTER, ONCE, TURN, beside_s_hz, times_of_two
from policy.scenario import Scenario, load_scenario


class Net(nn.Module):
    """Two layers, of which the first alone matters to the loss."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.idle = nn.Linear(8, 8)
        self.useful = nn.Linear(8, 2)
        self.same = nn.Linear(4, 4)


def test_a_device_holds_what_came_and_the_base_elsewhere() -> None:
    base, tuned = Net(0).state_dict(), Net(1).state_dict()
    tuned["same.weight"], tuned["same.bias"] = base["same.weight"], base["same.bias"]
    base = {name: value for name, value in base.items() if not name.startswith("useful")}
    device = Device(net := Net(1), base, {name: value.clone() for name, value in tuned.items()})
    assert [piece.name for piece in device.pieces] == ["idle", "useful"]
    assert [piece.num_bytes for piece in device.pieces] == [4 * 72, 4 * 18]
    for held in ([], [0], [1], [0, 1]):
        device.hold(held)
        state = net.state_dict()
        for name in ("idle.weight", "idle.bias"):
            assert torch.equal(state[name], tuned[name] if 0 in held else base[name])
        for name in ("useful.weight", "useful.bias"):
            wanted = tuned[name] if 1 in held else torch.zeros_like(tuned[name])
            assert torch.equal(state[name], wanted)


def test_what_the_loss_needs_comes_first() -> None:
    base, tuned = Net(0).state_dict(), Net(1).state_dict()
    device = Device(net := Net(1), base, {name: value.clone() for name, value in tuned.items()})
    useful = next(n for n, piece in enumerate(device.pieces) if piece.name == "useful")

    def loss() -> float:
        return float((net.useful.weight.detach() - tuned["useful.weight"]).square().sum())

    assert order_of(ORDERS[0], device, loss, np.random.default_rng(0))[0] == useful
    with pytest.raises(ValueError, match="order must be one of"):
        order_of("best", device, loss, np.random.default_rng(0))


@pytest.mark.parametrize("kind", ORDERS[1:])
def test_every_order_brings_everything_once(kind: str) -> None:
    device = Device(Net(1), Net(0).state_dict(), Net(1).state_dict())
    order = order_of(kind, device, lambda: 0.0, np.random.default_rng(3))
    assert sorted(order) == list(range(len(device.pieces)))
    shares = [received(device.pieces, order, share) for share in np.linspace(0, 1, 21)]
    assert shares[0] == []
    assert shares[-1] == order
    total = sum(piece.num_bytes for piece in device.pieces)
    for share, there in zip(np.linspace(0, 1, 21), shares, strict=True):
        assert there == order[: len(there)]
        assert sum(device.pieces[number].num_bytes for number in there) <= share * total * (1 + 1e-9)


def test_equal_models_have_no_pieces() -> None:
    assert pieces_of(Net(0).state_dict(), Net(0).state_dict()) == []


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("shape", [(64, 48), (16, 8, 3), (512,), (2, 0), ()])
def test_a_tier_is_near_and_its_rest_makes_it_exact(tier: str, shape: tuple[int, ...]) -> None:
    value = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 0.02
    if value.ndim == 2 and value.numel():
        value[3] = 0.0  # a row without a scale
    sent = tiered(value, tier)  # decodes what it counts, and compares
    assert sent.coarse.shape == value.shape
    step = {"int4": 1 / 14, "int8": 1 / 254, "bf16": 2**-7, AT_ONCE: 0.0}[tier]
    assert float((sent.coarse - value).abs().max() if value.numel() else 0.0) <= step * 0.1 + 1e-9
    if value.ndim < 2 or tier == AT_ONCE:
        assert torch.equal(sent.coarse, value)
        assert sent.rest_bytes == 0


def test_coarser_tiers_are_smaller_and_strangers_are_refused() -> None:
    value = torch.randn((256, 256), generator=torch.Generator().manual_seed(1))
    sizes = [tiered(value, tier).first_bytes for tier in TIERS]
    assert sizes == sorted(sizes)
    with pytest.raises(ValueError, match="tier must be one of"):
        tiered(value, "int3")
    with pytest.raises(ValueError, match="float32"):
        tiered(value.double(), "int8")


def test_a_nested_model_is_the_first_layers(tmp_path: Path) -> None:
    names = ["embeddings.w", *(f"encoder.layer.{n}.w" for n in range(12)), "pooler.w"]
    tensors = {name: np.full(3, number, dtype=np.float32) for number, name in enumerate(names)}
    (tmp_path / "m").mkdir()
    save_file(tensors, tmp_path / "m" / "model.safetensors")
    (tmp_path / "m" / "config.json").write_text(json.dumps({"num_hidden_layers": 12}))
    (tmp_path / "m" / "vocab.txt").write_text("a")
    cut(tmp_path / "m", 11, tmp_path / "s")
    kept = load_file(tmp_path / "s" / "model.safetensors")
    assert kept.keys() == {name for name in names if name != "encoder.layer.11.w"}
    assert all(np.array_equal(kept[name], tensors[name]) for name in kept)
    assert json.loads((tmp_path / "s" / "config.json").read_text())["num_hidden_layers"] == 11
    assert (tmp_path / "s" / "vocab.txt").read_text() == "a"
    assert layer_of("bert.encoder.layer.10.output.dense.bias") == 10
    for layers in (0, 13):
        with pytest.raises(ValueError, match="12 layers"):
            cut(tmp_path / "m", layers, tmp_path / "x")


def test_staleness_of_one_model_is_that_of_the_formula() -> None:
    times = np.arange(1, 2001, dtype=float)  # every second
    # A version is stale from its coming until it is there: carry^2 / 2 a second, while it fits in a second.
    for carry in (0.0, 0.25, 0.75, 1.0):
        assert staleness(carry, [times], 2000.0) == pytest.approx(carry**2 / 2, rel=2e-3)
    # A link that never delivers: stale since the first version.
    assert staleness(1e9, [times], 2000.0) == pytest.approx(1999**2 / 2 / 2000)
    assert staleness(1.0, [np.array([])], 10.0) == 0.0


def test_staleness_by_brute_force() -> None:
    """Beside a walk over small steps of time that knows nothing of areas."""
    rng = np.random.default_rng(5)
    versions = [np.cumsum(rng.exponential(4.0, 12)) for _ in range(3)]
    carry, horizon, step = 1.3, 30.0, 1e-3
    had, busy, total = [0, 0, 0], None, 0.0
    for now in np.arange(0, horizon, step):
        if busy is not None and now >= busy[0]:
            had[busy[1]], busy = busy[2], None
        late = [
            now - times[n] if n < len(times) and times[n] <= now else 0.0
            for times, n in zip(versions, had, strict=True)
        ]
        if busy is None and max(late) > 0:
            model = int(np.argmax(late))
            busy = (now + carry, model, int(np.searchsorted(versions[model], now, side="right")))
        total += sum(late) * step
    assert staleness(carry, versions, horizon) == pytest.approx(total / horizon / 3, rel=0.02)


def test_two_blocks_take_the_better_way() -> None:
    scenario: Scenario = load_scenario("default")
    for seed in range(2):
        times = times_of_two(scenario, {"antennas": 8, "users": 2}, seed)
        assert times[BETTER]["air_s"] == min(times[TURN]["air_s"], times[ONCE]["air_s"]) > 0
        assert times[BESIDE]["air_s"] <= times[TURN]["air_s"] * (1 + 1e-9)
    again = times_of_two(scenario, {"antennas": 8, "users": 2}, 1)
    assert again == times


@pytest.mark.parametrize("one", [0.01, 1.0, 300.0])
@pytest.mark.parametrize("other", [0.01, 1.0, 3000.0])
def test_subbands_never_take_longer_than_turns_and_gain_by_unequal_power_alone(
    one: float, other: float
) -> None:
    alone = 1.0 / np.log2(1.0 + np.array([one, other]))
    beside = beside_s_hz(one, other)

    assert max(alone) < beside <= alone.sum() * (1 + 1e-12)
    assert beside == pytest.approx(beside_s_hz(other, one), rel=1e-9)
    if one == other:  # nothing to share unequally
        assert beside == pytest.approx(alone.sum())
    elif other / one > 100 and one >= 1.0:  # power goes to the weak
        assert beside < 0.97 * alone.sum()


def test_the_chain_is_played_each_way_on_one_world() -> None:
    scenario = load_scenario("v30")
    short = Scenario(replace(scenario.config, num_slots=1), scenario.catalog)
    values = superposed.chain_with(short, {"scheme": "no-cache"}, 7)

    assert list(values) == list(superposed.AT_ONCE)
    turn, *more = (each["user_delay_s"] for each in values.values())
    assert 0 < min(more) <= turn * 1.1
    assert superposed.chain_with(short, {"scheme": "no-cache"}, 7) == values
