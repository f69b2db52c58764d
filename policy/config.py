"""Settings of a scenario: checked when made, loadable by name or from a TOML or JSON file."""

import json
import math
import tomllib
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from policy.process_config import PROCESSES, BurstConfig, MoodConfig, ProcessName, ShotConfig, WeeklyConfig

Timing = Literal["additive", "sequential", "pipelined"]


def _require(good: bool, text: str) -> None:
    if not good:
        raise ValueError(text)


def _require_plain(config: Any, unlimited: frozenset[str] = frozenset()) -> None:  # noqa: ANN401
    """Every number of a config is one: whole where it counts something, finite but for the fields named."""
    for item in fields(config):
        value, kind = getattr(config, item.name), getattr(item.type, "__name__", str(item.type))
        if kind == "int":
            good = isinstance(value, int) and not isinstance(value, bool)
            _require(good, f"{item.name} must be a whole number, got {value!r}")
        values = value if kind.startswith("tuple") else (value,) if kind == "float" else ()
        for one in values:
            good = isinstance(one, int | float) and not isinstance(one, bool) and not math.isnan(one)
            _require(good, f"{item.name} must be a number, got {one!r}")
            _require(item.name in unlimited or math.isfinite(one), f"{item.name} must be finite, got {one}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RadioProxyConfig:
    """The cheap radio inside the policy; real beamformers come through the same protocol from outside."""

    combining: Literal["power-sum", "coherent"] = "coherent"
    """How holders add up: powers (FINDINGS scenario), or amplitudes, (sum of amplitudes)^2."""
    bandwidth_hz: float = 100e6
    """Bandwidth of the one shared band, Hz (3GPP TS 38.104, the widest FR1 carrier)."""
    snr_db: float = 12.6
    """SNR of one node at `distance_m`, dB. Default: 40 dBm + 9 dB array gain (8 antennas) - UMi NLOS loss at
    300 m and 3.5 GHz (22.4 + 35.3 lg d + 21.3 lg f = 121.4 dB, TR 38.901 table 7.4.1-1) + 85 dBm noise
    (-174 dBm/Hz, 100 MHz, figure 9 dB)."""
    distance_m: float = 300.0
    """Distance at which `snr_db` holds, m."""
    path_loss_exponent: float = 3.53
    """Decay of power over distance (TR 38.901, UMi NLOS)."""
    min_distance_m: float = 10.0
    """Nearer than this counts as this, m (TR 38.901 starts at 10 m)."""
    range_m: float = math.inf
    """Further than this a node is not heard at all, m."""

    def __post_init__(self) -> None:
        _require_plain(self, frozenset({"range_m"}))
        _require(self.combining in ("power-sum", "coherent"), f"unknown combining {self.combining!r}")
        for name in ("bandwidth_hz", "distance_m", "path_loss_exponent", "min_distance_m", "range_m"):
            _require(getattr(self, name) > 0, f"{name} must be > 0, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkConfig:
    """Wires between the nodes and to the cloud."""

    backhaul_bit_s: float = 1e9
    """Node to node, bit/s: non-ideal fibre (3GPP TR 36.932, table 6.1-1: 10 Mbit/s to 10 Gbit/s)."""
    cloud_bit_s: float = 200e6
    """Cloud to node, bit/s; at most the backhaul. A wide-area path that a node shares with others."""

    def __post_init__(self) -> None:
        _require_plain(self)
        for name in ("backhaul_bit_s", "cloud_bit_s"):
            _require(getattr(self, name) > 0, f"{name} must be > 0, got {getattr(self, name)}")
        _require(self.cloud_bit_s <= self.backhaul_bit_s, "cloud_bit_s must not exceed backhaul_bit_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class AirConfig:
    """What may be on the air."""

    superpose: int = 1
    """Blocks on the air at once at most, each for users of its own, with beams that keep them apart; 1: one
    after another. Needs a radio that knows interference: real beamformers."""

    def __post_init__(self) -> None:
        _require_plain(self)
        _require(1 <= self.superpose <= 8, f"superpose must be in 1..8, got {self.superpose}")


@dataclass(frozen=True, slots=True, kw_only=True)
class MobilityConfig:
    """How users walk."""

    kind: Literal["random-waypoint", "gauss-markov", "still"] = "random-waypoint"
    """Model of motion (Camp, Boleng and Davies, 2002, sections 2.2 and 2.5)."""
    speed_m_s: tuple[float, float] = (0.8, 2.0)
    """Slowest and fastest speed, m/s; default: walking."""
    memory: float = 0.8
    """Gauss-Markov: weight of the last speed and heading, 0..1."""
    speed_sigma_m_s: float = 2.0
    """Gauss-Markov: spread of the speed, m/s."""
    heading_sigma_rad: float = 0.6
    """Gauss-Markov: spread of the heading, rad."""

    def __post_init__(self) -> None:
        _require_plain(self)
        kinds = ("random-waypoint", "gauss-markov", "still")
        _require(self.kind in kinds, f"mobility kind must be one of {kinds}, got {self.kind!r}")
        _require(len(self.speed_m_s) == 2, f"speed_m_s must be slowest and fastest, got {self.speed_m_s}")
        low, high = self.speed_m_s
        _require(0 <= low <= high, f"speed_m_s must be 0 <= low <= high, got {self.speed_m_s}")
        _require(0 <= self.memory < 1, f"memory must be in [0, 1), got {self.memory}")
        for name in ("speed_sigma_m_s", "heading_sigma_rad"):
            _require(getattr(self, name) >= 0, f"{name} must be >= 0, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestConfig:
    """Who asks for what, when."""

    process: ProcessName = "ranks"
    """Which process draws the requests, see `policy.world.processes`; most of what follows is for `ranks`."""
    request_prob: float = 0.5
    """Chance that a user asks for a model in a slot."""
    zipf_exponent: float = 0.8
    """Skew of popularity over ranks (Breslau et al., 1999)."""
    stickiness: float = 0.0
    """Chance that a request stays within the family of the user's last model."""
    no_repeat: int = 0
    """A user never asks for one of its last so many models."""
    reshuffle_prob: float = 0.0
    """Chance a slot that all popularity ranks are drawn anew."""
    drift_prob: float = 0.1
    """Chance a slot that two models swap their ranks (slow drift)."""
    cell_taste: float = 0.5
    """Share of requests that follow the ranks of the user's own cell (nearest node), not the common ones."""
    flash_prob: float = 0.0
    """Chance a slot that a flash crowd for one random model begins."""
    flash_slots: int = 4
    """Slots a flash crowd lasts."""
    flash_share: float = 0.6
    """Share of requests that go to the flash crowd's model."""
    diurnal_amplitude: float = 0.0
    """Depth of the daily wave on `request_prob`, 0..1."""
    diurnal_slots: int = 24
    """Slots a day."""
    keep_downloads: bool = False
    """Whether devices keep what they downloaded and so miss fewer blocks later."""
    device_bytes: float = math.inf
    """Room for kept blocks on a device, bytes; the blocks used longest ago go first."""
    bursts: BurstConfig = field(default_factory=BurstConfig)
    weekly: WeeklyConfig = field(default_factory=WeeklyConfig)
    moods: MoodConfig = field(default_factory=MoodConfig)
    shots: ShotConfig = field(default_factory=ShotConfig)

    def __post_init__(self) -> None:
        _require_plain(self, frozenset({"device_bytes"}))
        _require(self.process in PROCESSES, f"process must be one of {PROCESSES}, got {self.process!r}")
        shares = ("request_prob", "stickiness", "reshuffle_prob", "drift_prob", "cell_taste", "flash_prob")
        for name in (*shares, "flash_share", "diurnal_amplitude"):
            value = getattr(self, name)
            _require(0 <= value <= 1, f"{name} must be in [0, 1], got {value}")
        _require(self.zipf_exponent >= 0, f"zipf_exponent must be >= 0, got {self.zipf_exponent}")
        _require(self.no_repeat >= 0, f"no_repeat must be >= 0, got {self.no_repeat}")
        _require(
            self.flash_slots >= 1 and self.diurnal_slots >= 1, "flash_slots and diurnal_slots must be >= 1"
        )
        _require(self.device_bytes >= 0, f"device_bytes must be >= 0, got {self.device_bytes}")


EXPOSED_SHARE = 0.3
"""Share of a transfer's time that delays users in pipelined timing, for values that add over blocks.

Tuned for EWMA-greedy and our learned policy alike (0.03 to 1) on validation worlds of the small zoo, with 30
and 80 % of its blocks fitting on a node, four pairs of link speeds, with and without migration.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioConfig:
    """One problem: geometry, users, links, caches, requests and what is minimised.

    What is played by name stands in the files of `SCENARIOS`; fields that a file leaves out are as here, and
    as in `default`.
    """

    name: str = "default"
    """Name in tables and files."""
    catalog: str = "vision"
    """Catalog that it is played on unless another is given, see `policy.scenario.load_scenario`."""
    num_nodes: int = 4
    """Edge nodes, on the most square grid that holds them."""
    num_users: int = 12
    """Users."""
    num_slots: int = 24
    """Slots of one episode."""
    slot_s: float = 10.0
    """Length of a slot, s."""
    area_m: float = 500.0
    """Side of the square, m."""
    capacity_bytes: tuple[float, ...] = ()
    """Room of each node, bytes: one value for all, or one each; empty: `capacity_share` rules."""
    capacity_share: float = 0.15
    """Room of each node as a share of the catalog's deduplicated bytes."""
    update_weight: float = 0.02
    """Seconds of delay that one second of cache-update transfer counts for. Charged with additive timing;
    with others updates ride on idle links, see `policy.slot.updates`, and delay nobody: there it is only what
    planners think that a change must be worth."""
    update_budget_bytes: float = math.inf
    """Most bytes a node may add to its cache between two slots, whatever its link could carry."""
    backlog: bool = True
    """Whether work that is not done when a slot ends is carried into the next; never with additive timing."""
    deadline_s: float = 1.0
    """Delay that a request should stay within, s (TS 22.261 table 7.10.1-2: a 138 MB image model in 1 s)."""
    timing: Timing = "pipelined"
    """additive: everything one after another; sequential: all transfers, then all broadcasts; pipelined."""
    objective: Literal["mean-user", "total"] = "mean-user"
    """What a slot costs: mean delay of the users who asked, or the sum of all blocks' delays."""
    radio: RadioProxyConfig = field(default_factory=RadioProxyConfig)
    """The cheap radio."""
    air: AirConfig = field(default_factory=AirConfig)
    """What may be on the air."""
    links: LinkConfig = field(default_factory=LinkConfig)
    """Backhaul and cloud."""
    mobility: MobilityConfig = field(default_factory=MobilityConfig)
    """Motion."""
    requests: RequestConfig = field(default_factory=RequestConfig)
    """Requests."""

    def __post_init__(self) -> None:
        _require_plain(self, frozenset({"update_budget_bytes"}))
        for name in ("num_nodes", "num_users", "num_slots"):
            _require(getattr(self, name) >= 1, f"{name} must be >= 1, got {getattr(self, name)}")
        for name in ("slot_s", "area_m", "capacity_share", "deadline_s"):
            _require(getattr(self, name) > 0, f"{name} must be > 0, got {getattr(self, name)}")
        count = len(self.capacity_bytes)
        _require(count in (0, 1, self.num_nodes), f"need 0, 1 or {self.num_nodes} capacities, got {count}")
        for room in self.capacity_bytes:
            _require(room > 0, f"capacity_bytes must be > 0, got {room}")
        _require(self.update_weight >= 0, f"update_weight must be >= 0, got {self.update_weight}")
        _require(self.update_budget_bytes >= 0, "update_budget_bytes must be >= 0")
        timings = ("additive", "sequential", "pipelined")
        _require(self.timing in timings, f"timing must be one of {timings}, got {self.timing!r}")
        _require(self.objective in ("mean-user", "total"), f"unknown objective {self.objective!r}")
        searched = self.timing != "additive" and self.objective == "mean-user"
        _require(
            searched or self.air.superpose == 1,
            "air.superpose needs pipelined or sequential timing and the objective mean-user",
        )

    @property
    def charges_updates(self) -> bool:
        """Whether updates are charged by weight and need no link (additive timing), or share the links."""
        return self.timing == "additive"

    @property
    def carries_backlog(self) -> bool:
        """Whether work that is not done when a slot ends is carried into the next."""
        return self.backlog and self.timing != "additive"

    @property
    def planning_links(self) -> LinkConfig:
        """The links as values that add over blocks should see them.

        A transfer that overlaps with broadcasts (pipelined timing) delays nobody as long as the band is busy:
        only a part of its time counts, `EXPOSED_SHARE`. The objective `total` adds up transfers in full
        whatever overlaps.
        """
        if self.timing != "pipelined" or self.objective != "mean-user":
            return self.links
        backhaul, cloud = (
            rate / EXPOSED_SHARE for rate in (self.links.backhaul_bit_s, self.links.cloud_bit_s)
        )
        return LinkConfig(backhaul_bit_s=backhaul, cloud_bit_s=cloud)

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dict, for JSON (infinity becomes the string `inf`)."""
        return {key: _plain(value) for key, value in asdict(self).items()}


def load_config(name_or_file: str | Path) -> ScenarioConfig:
    """A preset by name, or a TOML or JSON file; a file may name a preset as `base` and change some fields.

    Raises:
        ValueError: If there is no such preset or file, or a field is unknown or out of range.
    """
    if str(name_or_file) in PRESETS:
        return PRESETS[str(name_or_file)]
    path = Path(name_or_file)
    if not path.is_file():
        near = get_close_matches(str(name_or_file), list(PRESETS), 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        known = ", ".join(sorted(PRESETS))
        raise ValueError(f"scenario must be one of {known} or a .toml/.json file, got {name_or_file}{hint}")
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid {path.suffix[1:] or 'TOML'}: {error}") from error
    try:
        return config_from_dict(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def config_from_dict(data: dict[str, Any]) -> ScenarioConfig:
    """Build a config from nested dicts; `base` names the preset to start from."""
    if not isinstance(data, dict):
        raise ValueError(f"a scenario is a table of fields, got {str(data)[:60]!r}")
    rest = dict(data)
    base = rest.pop("base", "default")
    if not isinstance(base, str) or base not in PRESETS:
        raise ValueError(f"base must be one of {sorted(PRESETS)}, got {base!r}")
    config: ScenarioConfig = _update(PRESETS[base], rest)
    return config


def _update(config: Any, changes: dict[str, Any]) -> Any:  # noqa: ANN401 - any of the config classes
    """Replace fields, nested ones too; strings `inf` become numbers, lists tuples."""
    if not isinstance(changes, dict):
        raise ValueError(f"{type(config).__name__} needs a table of fields, got {changes!r}")
    known = {f.name for f in fields(config)}
    unknown = sorted(set(changes) - known)
    if unknown:
        raise ValueError(
            f"unknown field {unknown[0]!r}; {type(config).__name__} has {', '.join(sorted(known))}"
        )
    updated = {}
    for key, value in changes.items():
        old = getattr(config, key)
        if is_dataclass(old):
            updated[key] = _update(old, value)
        else:
            updated[key] = _coerce(key, old, value)
    return replace(config, **updated)


def _shipped(path: Path) -> ScenarioConfig:
    config: ScenarioConfig = _update(ScenarioConfig(), tomllib.loads(path.read_text(encoding="utf-8")))
    return config


def _coerce(key: str, old: object, value: object) -> object:
    if isinstance(old, tuple):
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(_number(key, item) for item in items)
    if isinstance(old, float):
        return _number(key, value)
    if type(value) is not type(old):
        raise ValueError(f"{key} must be {type(old).__name__}, got {value!r}")
    return value


def _number(key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{key} must be a number, got {value!r}")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise ValueError(f"{key} must be a number, got {str(value)[:60]!r}") from None
    if math.isnan(number):
        raise ValueError(f"{key} must be a number, got NaN")
    return number


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


SCENARIOS = Path(__file__).parent / "scenarios"
"""Scenarios that come with the package, one TOML file each, and catalogs of exact shapes that they use."""
PRESETS = {path.stem: _shipped(path) for path in sorted(SCENARIOS.glob("*.toml"))}
"""Scenarios that come with the package, by name."""
FINDINGS = PRESETS["findings"]
"""The setting in which the first prototype was measured."""
