"""A scenario (settings and catalog) and the worlds drawn from it."""

import logging
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path

import numpy as np

from policy.config import SCENARIOS, ScenarioConfig, load_config
from policy.interfaces import BlockCatalog, Bool, DelayModel, Float, Int, JointDelay
from policy.slot.backlog import Carried
from policy.slot.problem import SlotProblem
from policy.slot.rates import COMP, AirTimes
from policy.slot.tables import DelayTable, ServiceRules, delay_table, migration_table
from policy.world.cheap_radio import proxy_delay
from policy.world.devices import device_blocks
from policy.world.forms import Delivered, Delivery, FormChoice, deliveries
from policy.world.synthetic import findings_catalog, merged_catalog
from policy.world.trace import Trace, WorldState, generate

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scenario:
    """What is decided about: a config and a catalog, checked against one another."""

    config: ScenarioConfig
    catalog: BlockCatalog

    def __repr__(self) -> str:
        config, catalog = self.config, self.catalog
        return (
            f"Scenario({config.name!r}, {catalog.num_models} models, {catalog.num_blocks} blocks, "
            f"{catalog.dedup_bytes / 1e6:.0f} MB, {config.num_nodes} nodes of "
            f"{self.capacity_bytes.mean() / 1e6:.0f} MB, {config.num_users} users, {config.num_slots} slots)"
        )

    def __post_init__(self) -> None:
        smallest = int(self.catalog.sizes_bytes.min())
        room = self.capacity_bytes
        if (room < smallest).any():
            node = int(room.argmin())
            raise ValueError(
                f"node {node} has a capacity of {room[node]:.0f} bytes, "
                f"less than the smallest block ({smallest} bytes)"
            )
        oversized = int((self.catalog.sizes_bytes > room.max()).sum())
        if oversized:
            log.warning("%d of %d blocks fit on no node", oversized, self.catalog.num_blocks)

    @cached_property
    def capacity_bytes(self) -> Float:
        """Room of each node, bytes, (nodes,), read-only."""
        nodes, per_node = self.config.num_nodes, self.config.capacity_bytes
        room = np.full(nodes, self.config.capacity_share * self.catalog.dedup_bytes)
        if per_node:
            room[:] = per_node
        room.setflags(write=False)
        return room

    @cached_property
    def families(self) -> Int:
        """Family of each model, (models,)."""
        return self.catalog.families()

    @cached_property
    def form_choice(self) -> FormChoice | None:
        """Chooses the form of each delivery; None if every block has one form."""
        return None if self.catalog.forms is None else FormChoice(self.catalog)

    def whole_models(self) -> "Scenario":
        """The same problem with each model as one block of its own; capacities in bytes stay."""
        config = replace(self.config, capacity_bytes=tuple(self.capacity_bytes.tolist()))
        coarse = object.__new__(Scenario)  # not checked: a whole model may exceed every capacity
        object.__setattr__(coarse, "config", config)
        object.__setattr__(coarse, "catalog", self.catalog.whole_models())
        return coarse

    def world(self, seed: int) -> "World":
        """Draw the world of one seed, with the cheap radio of the config."""
        trace, hidden = generate(np.random.default_rng(seed), self.config, self.families)
        return self.world_of(trace, hidden=hidden)

    def world_of(
        self, trace: Trace, delay: DelayModel | None = None, hidden: tuple[WorldState, ...] = ()
    ) -> "World":
        """The world of a given trace; `delay` None means the cheap radio of the config.

        Raises:
            ValueError: If the trace is not of this scenario's size, or names a model that is not on offer.
        """
        config = self.config
        if (trace.num_nodes, trace.num_users) != (config.num_nodes, config.num_users):
            raise ValueError(
                f"the scenario has {config.num_nodes} nodes and {config.num_users} users, "
                f"the trace {trace.num_nodes} and {trace.num_users}"
            )
        if trace.requests.max() >= self.catalog.num_models:
            raise ValueError(f"the trace asks for model {trace.requests.max()} of {self.catalog.num_models}")
        radio = delay or proxy_delay(trace.node_xy, trace.user_xy, config.radio)
        if config.air.superpose > 1:
            if not isinstance(radio, JointDelay):
                raise ValueError("air.superpose needs a radio that knows interference: real beamformers")
            radio.check_together()
        return World(scenario=self, trace=trace, delay=radio, hidden=hidden)


@dataclass(frozen=True, kw_only=True, eq=False)
class World:
    """One trace with its radio: everything exogenous, so that any placement can be judged on it."""

    scenario: Scenario
    trace: Trace
    delay: DelayModel
    hidden: tuple[WorldState, ...] = ()
    """Hidden state before each slot, for oracles only; empty for replayed traces."""
    _tables: dict[tuple[int, ServiceRules], DelayTable] = field(default_factory=dict, repr=False)
    _air: dict[int, AirTimes] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        return f"World({self.scenario.config.name!r}, {self.trace!r}, {type(self.delay).__name__})"

    def with_deliveries(self, delivered: Delivered) -> "World":
        """Take what each slot sends in which form from who has computed it already."""
        vars(self)["_delivered"] = delivered
        return self

    def keep_tables_of(self, before: "World") -> None:
        """Share what a world with the same past has computed of its slots."""
        vars(self).update(_tables=before._tables, _air=before._air)

    def forget(self, slot: int) -> None:
        """Let go of what was computed of a slot; it is computed again if it is asked for."""
        self._air.pop(slot, None)
        for key in [key for key in self._tables if key[0] == slot]:
            del self._tables[key]

    @cached_property
    def _delivered(self) -> Delivered | None:
        """What each slot sends in which form; None if every block has one form."""
        choice = self.scenario.form_choice
        if choice is None:
            return None
        return deliveries(self.trace.requests, choice, self.scenario.config.requests)

    @cached_property
    def _devices(self) -> Bool | None:
        if self._delivered is not None:
            return self._delivered.kept
        return device_blocks(self.trace.requests, self.scenario.catalog, self.scenario.config.requests)

    @cached_property
    def coarse(self) -> "World":
        """The same world with each model as one block of its own."""
        return World(
            scenario=self.scenario.whole_models(), trace=self.trace, delay=self.delay, hidden=self.hidden
        )

    def under(self, rules: ServiceRules) -> "World":
        """The world as the rules see it: whole models or blocks."""
        return self.coarse if rules.whole_models else self

    def asked(self, slot: int) -> Bool:
        """Users who ask in a slot, (users,)."""
        return np.asarray(self.trace.requests[slot] >= 0)

    def devices(self, slot: int) -> Bool | None:
        """Blocks on each device before a slot, (users, blocks); None when devices keep nothing."""
        return None if self._devices is None else self._devices[slot]

    def needs(self, slot: int) -> Bool:
        """Which user misses which block in a slot, (users, blocks).

        Where blocks have other forms, those that the cheapest forms of the slot's deliveries need, see
        `policy.world.forms`.
        """
        if self._delivered is not None:
            return self._delivered.slots[slot].needs
        asked = self.trace.requests[slot]
        members = self.scenario.catalog.members
        needs = members[np.maximum(asked, 0)] & (asked >= 0)[:, None]
        kept = self.devices(slot)
        return np.asarray(needs if kept is None else needs & ~kept)

    def alone(self, slot: int) -> Bool:
        """Blocks that need no other block in the forms with the fewest bytes on the air, (blocks,)."""
        if self._delivered is None:
            return np.zeros(self.scenario.catalog.num_blocks, dtype=bool)
        return self._delivered.slots[slot].alone

    def sizes(self, slot: int, alone: Bool | None = None) -> Int:
        """Bytes of each block in the form in which it is sent, (blocks,); `alone` None: `alone(slot)`."""
        catalog = self.scenario.catalog
        if catalog.forms is None:
            return catalog.sizes_bytes
        chosen = self.alone(slot) if alone is None else alone
        return np.where(chosen, catalog.forms.alone_bytes, catalog.sizes_bytes)

    def least(self, slot: int) -> tuple[Bool, Int]:
        """What a slot sends at least, in whatever forms: needs (users, blocks) and bytes (blocks,).

        Where the forms of a slot are free, see `deliveries`, no base and each block in its smaller form.
        """
        catalog = self.scenario.catalog
        if catalog.forms is None or self.devices(slot) is not None:
            return self.needs(slot), self.sizes(slot)
        asked = self.trace.requests[slot]
        needs = catalog.forms.content[np.maximum(asked, 0)] & (asked >= 0)[:, None]
        return needs, np.minimum(catalog.sizes_bytes, catalog.forms.alone_bytes)

    def deliveries(self, slot: int, placement: Bool) -> list[Delivery]:
        """Forms in which a slot may be sent from given caches, (nodes, blocks), each once.

        First those with the fewest bytes on the air, `needs` and `alone`. Others only where devices keep
        nothing: what they keep follows from what they were sent, and is part of the world.
        """
        first = self._fewest_bytes(slot)
        choice, asked = self.scenario.form_choice, self.asked(slot)
        if choice is None or self.devices(slot) is not None or not first.needs.any():
            return [first]
        config = self.scenario.config
        wanted = choice.content[np.maximum(self.trace.requests[slot], 0)] & asked[:, None]
        everywhere = np.ones((1, config.num_nodes), dtype=bool)
        per_bit = self.air_times(slot).per_bit(everywhere, asked[None])[COMP, 0]
        air_s = 8.0 * float(np.nan_to_num(per_bit, posinf=0.0))
        cloud_s = [8.0 / config.links.cloud_bit_s / share for share in (1, config.num_nodes)]
        others = choice.quick(wanted, np.zeros_like(wanted), placement, air_s, cloud_s)
        ways = {first.key: first}
        for needs, alone in others:
            way = Delivery(choice.blocks(needs), choice.blocks(alone))
            ways.setdefault(way.key, way)
        return list(ways.values())

    def _fewest_bytes(self, slot: int) -> Delivery:
        return Delivery(self.needs(slot), self.alone(slot))

    def problem(
        self,
        slot: int,
        placement: Bool,
        rules: ServiceRules | None = None,
        carried: Carried | None = None,
        delivery: Delivery | None = None,
    ) -> SlotProblem:
        """A slot to be served from given caches, (nodes, blocks), after what the slot before has left.

        Args:
            slot: Slot.
            placement: Kept copies, (nodes, blocks).
            rules: Ablations.
            carried: What the slot before has left; None: idle links and band.
            delivery: Forms and receivers, one of `deliveries`; None: the first of them.
        """
        config, choice = self.scenario.config, self.scenario.form_choice
        way = delivery or self._fewest_bytes(slot)
        return SlotProblem(
            slot=slot,
            sizes_bytes=self.sizes(slot, way.alone),
            delay=self.delay,
            asked=self.asked(slot),
            needs=way.needs,
            cached=placement if choice is None else choice.ready(placement, way.alone),
            links=config.links,
            timing=config.timing,
            rules=rules or ServiceRules(),
            link_free_s=None if carried is None else carried.link_free_s,
            band_free_s=0.0 if carried is None else carried.band_free_s,
            at_once=config.air.superpose,
        )

    def air_times(self, slot: int) -> AirTimes:
        """What the radio says of a slot, asked once for each set of senders and users."""
        return self._air.setdefault(slot, AirTimes(delay=self.delay, slot=slot))

    def table(self, slot: int, rules: ServiceRules | None = None) -> DelayTable:
        """Delay table of a slot, computed once; see `policy.slot.tables.delay_table`."""
        key = (slot, replace(rules or ServiceRules(), groups=True))  # a table knows no groups
        if key not in self._tables:
            scenario = self.scenario
            self._tables[key] = delay_table(
                self.delay,
                slot,
                self.needs(slot),
                self.sizes(slot),
                scenario.config.num_nodes,
                scenario.config.links,
                key[1],
            )
        return self._tables[key]

    def planning_table(self, slot: int, rules: ServiceRules | None = None) -> Float:
        """Delays of `table` with the links of `ScenarioConfig.planning_links`, (blocks, 2^nodes), s."""
        table, config = self.table(slot, rules), self.scenario.config
        if config.planning_links == config.links:
            return table.cost_s
        migration = (rules or ServiceRules()).migration
        return migration_table(table.air_s, self.sizes(slot), config.planning_links, migration)[0]


def load_scenario(name_or_file: str | Path, catalog: BlockCatalog | None = None) -> Scenario:
    """A scenario by the name of a preset or from a TOML or JSON file.

    Args:
        name_or_file: See `policy.config.load_config`.
        catalog: The blocks on offer; None: those that the scenario names, if they come with the package.

    Raises:
        ValueError: If the scenario names a catalog that does not.
    """
    config = load_config(name_or_file)
    return Scenario(config, catalog if catalog is not None else shipped_catalog(config.catalog))


@cache
def shipped_catalog(name: str) -> BlockCatalog:
    """A catalog that comes with the package.

    Args:
        name: `findings`, the prototype's twelve models of sixty blocks; `trio`, the same with blocks that
            always go together as one (18); `vision` or `shapes`, families of real architectures by exact
            shape (real sizes and sharing, no weights).

    Raises:
        ValueError: If there is no such catalog.
    """
    if name == "findings":
        return findings_catalog()
    if name == "trio":
        return merged_catalog(findings_catalog())
    known = sorted(path.stem for path in SCENARIOS.glob("*.npz"))
    if name not in known:
        names = ", ".join(["findings", "trio", *known])
        raise ValueError(f"no catalog {name!r} comes with the package ({names} do): give the scenario one")
    return BlockCatalog.load(SCENARIOS / f"{name}.npz")
