"""A scenario with some of its settings changed, as options of a command line say it."""

from dataclasses import dataclass, replace

from policy.config import AirConfig, ScenarioConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What is changed; None leaves a setting as the scenario has it."""

    nodes: int | None = None
    users: int | None = None
    slots: int | None = None
    request_prob: float | None = None
    backhaul_mbit: float | None = None
    cloud_mbit: float | None = None
    bandwidth_mhz: float | None = None
    superpose: int | None = None
    capacity_share: float | None = None
    """Room of a node as a share of the catalog; else"""
    capacity_bytes: float | None = None
    """in bytes."""

    def on(self, config: ScenarioConfig) -> ScenarioConfig:
        """The scenario with these changes.

        Raises:
            ValueError: If a value is out of range, in one line.
        """
        keeps_room = self.capacity_share is None and self.capacity_bytes is None
        if self.nodes is not None and len(config.capacity_bytes) > 1 and keeps_room:
            raise ValueError("the scenario names each node's capacity: give --capacity with --nodes")
        wires = {"backhaul_bit_s": self.backhaul_mbit, "cloud_bit_s": self.cloud_mbit}
        links = replace(
            config.links, **{name: 1e6 * value for name, value in wires.items() if value is not None}
        )
        radio, requests = config.radio, config.requests
        if self.bandwidth_mhz is not None:
            radio = replace(radio, bandwidth_hz=1e6 * self.bandwidth_mhz)
        if self.request_prob is not None:
            requests = replace(requests, request_prob=self.request_prob)
        air = config.air if self.superpose is None else AirConfig(superpose=self.superpose)
        changed = replace(config, links=links, radio=radio, requests=requests, air=air)
        if self.capacity_share is not None:
            changed = replace(changed, capacity_share=self.capacity_share, capacity_bytes=())
        if self.capacity_bytes is not None:
            changed = replace(changed, capacity_bytes=(self.capacity_bytes,))
        return replace(
            changed,
            num_nodes=config.num_nodes if self.nodes is None else self.nodes,
            num_users=config.num_users if self.users is None else self.users,
            num_slots=config.num_slots if self.slots is None else self.slots,
        )
