"""What the learned policy was trained on: every parameter that its forecast could depend on, with its range.

The demand network sees requests and cells, nothing else: radio, wires, capacities, timing and what devices
keep do not reach it. `policy.learn.worlds` draws from these ranges; what lies outside is out of distribution.
"""

from collections.abc import Iterator

from policy.config import FINDINGS, MobilityConfig, RequestConfig
from policy.scenario import Scenario

Range = tuple[float, float]

REQUESTS: dict[str, Range] = {
    # least and most, of the values that are drawn
    "request_prob": (0.3, 1.0),
    "zipf_exponent": (0.3, 1.4),
    "stickiness": (0.2, 0.95),
    "no_repeat": (0, 3),
    "reshuffle_prob": (0.005, 0.1),
    "drift_prob": (0.02, 0.5),
    "cell_taste": (0.1, 1.0),
    "flash_prob": (0.02, 0.15),
    "flash_slots": (2, 7),
    "flash_share": (0.2, 0.8),
    "diurnal_amplitude": (0.2, 0.9),
    "diurnal_slots": (24, 24),
}
ABSENT = frozenset(
    {"stickiness", "reshuffle_prob", "drift_prob", "cell_taste", "flash_prob", "diurnal_amplitude"}
)
"""Effects that are also trained without: 0 is inside, too."""
FLASH = frozenset({"flash_slots", "flash_share"})
MOTION: dict[str, Range] = {
    "slowest_m_s": (0.3, 5.0),
    "faster": (1.2, 7.0),  # fastest speed over slowest
    "memory": (0.3, 0.95),
    "speed_sigma_m_s": (0.3, 3.0),
    "heading_sigma_rad": (0.1, 1.2),
}
FASTER_OF_PRESET = FINDINGS.mobility.speed_m_s[1] / FINDINGS.mobility.speed_m_s[0]
"""Every third setting keeps the motion of a preset, whose users may be faster than drawn ones."""
SIZES: dict[str, Range] = {
    "num_users": (4, 24),
    "num_slots": (24, 48),
    "num_nodes": (4, 4),
    "area_m": (500.0, 600.0),
    "slot_s": (10.0, 10.0),
}
MODELS: Range = (4, 30)
"""Models of a catalog."""
PROCESSES = frozenset({"ranks"})
KINDS = frozenset({"gauss-markov", "random-waypoint"})
UNSEEN = frozenset({"keep_downloads", "device_bytes", "bursts", "weekly", "moods", "shots"})
"""Fields of a request config that do not reach the forecast, or belong to processes outside of training."""


def outside(scenario: Scenario) -> dict[str, object]:
    """Parameters of a scenario that lie outside the training ranges, with their values; none: inside."""
    return {name: value for name, value, inside in _judged(scenario) if not inside}


def _judged(scenario: Scenario) -> Iterator[tuple[str, object, bool]]:
    """Every parameter that the forecast could depend on: its name, its value, whether it was trained on."""
    config, models = scenario.config, scenario.catalog.num_models
    for name, span in SIZES.items():
        yield name, getattr(config, name), _within(getattr(config, name), span)
    yield "catalog.models", models, _within(models, MODELS)
    yield from _judged_requests(config.requests)
    yield from _judged_motion(config.mobility)


def _judged_requests(requests: RequestConfig) -> Iterator[tuple[str, object, bool]]:
    yield "requests.process", requests.process, requests.process in PROCESSES
    for name, span in REQUESTS.items() if requests.process == "ranks" else ():
        value = getattr(requests, name)
        silent = (name in FLASH and not requests.flash_prob) or (
            name == "diurnal_slots" and not requests.diurnal_amplitude
        )
        yield f"requests.{name}", value, silent or (name in ABSENT and value == 0) or _within(value, span)


def _judged_motion(motion: MobilityConfig) -> Iterator[tuple[str, object, bool]]:
    yield "mobility.kind", motion.kind, motion.kind in KINDS
    if motion.kind not in KINDS:
        return
    slowest, fastest = motion.speed_m_s
    ratio = fastest / max(slowest, 1e-9)
    yield "mobility.slowest_m_s", slowest, _within(slowest, MOTION["slowest_m_s"])
    yield "mobility.faster", ratio, _within(ratio, (MOTION["faster"][0], FASTER_OF_PRESET))
    for name in ("memory", "speed_sigma_m_s", "heading_sigma_rad") if motion.kind == "gauss-markov" else ():
        yield f"mobility.{name}", getattr(motion, name), _within(getattr(motion, name), MOTION[name])


def _within(value: float, span: Range) -> bool:
    return span[0] <= value <= span[1]
