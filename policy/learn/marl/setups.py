"""Settings of the learned baselines: those tried in tuning, the best, and MAASN-DA with one thing changed."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from policy.errors import SchemeError
from policy.learn.marl.base import Learner, MarlConfig
from policy.learn.marl.maasn_da import MaasnConfig, MaasnDa
from policy.learn.marl.maddpg import Maddpg
from policy.learn.marl.mappo import Mappo
from policy.learn.marl.qmix import Qmix
from policy.learn.marl.training_worlds import WorldSet
from policy.learn.marl.vdn import Vdn
from policy.play.own_files import file_of, own_object

LEARNERS: dict[str, type[Learner]] = {
    learner.name: learner for learner in (MaasnDa, Maddpg, Mappo, Qmix, Vdn)
}
"""By the name of their scheme."""


def learner_of(scheme: str) -> type[Learner]:
    """A learner by the name of its scheme, or one's own by file and class (`./mine.py:Class`).

    Raises:
        SchemeError: If there is no such learner.
    """
    own = file_of(scheme)
    if own is None:
        if scheme not in LEARNERS:
            raise SchemeError(f"no learner {scheme!r}; there are {', '.join(LEARNERS)}")
        return LEARNERS[scheme]
    learner = own_object(own[0], own[1])
    if not (isinstance(learner, type) and issubclass(learner, Learner)):
        raise SchemeError(f"{own[0]}: {own[1]} is no Learner")
    return learner


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """A learner and its settings."""

    scheme: str
    """Name, or file and class of one's own learner."""
    config: MarlConfig
    own: MaasnConfig | None = None
    """Of MAASN-DA alone."""

    @property
    def told(self) -> bool:
        """Whether nodes tell one another what they expect."""
        return self.own is not None and self.own.told

    def make(self, world_set: WorldSet, seed: int) -> Learner:
        """A learner that has learnt nothing; where nodes are `told`, on worlds where they are."""
        config = replace(self.config, seed=seed)
        if self.own is not None:
            return MaasnDa(world_set, config, self.own)
        return learner_of(self.scheme)(world_set, config)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def _maasn(rate: float = 5e-3, **own: Any) -> Setup:  # noqa: ANN401 - fields of MaasnConfig
    config = MarlConfig(learning_rate=rate, noise=0.5, worlds=24, batch=32)
    return Setup(scheme="maasn-da", config=config, own=MaasnConfig(**{"temperature": 0.5, **own}))


def _other(scheme: str, rate: float, noise: float) -> Setup:
    return Setup(scheme=scheme, config=MarlConfig(learning_rate=rate, noise=noise, worlds=24, batch=32))


CHOICES: dict[str, dict[str, Setup]] = {
    "maasn-da": {
        "rate 0.005": _maasn(),
        "rate 0.01": _maasn(rate=1e-2),
        "rate 0.005, temperature 1": _maasn(temperature=1.0),
    },
    "mappo": {f"rate {rate}": _other("mappo", rate, 1.0) for rate in (1e-2, 3e-3, 3e-2)},
    **{
        scheme: {
            f"rate {rate}, noise {noise}": _other(scheme, rate, noise)
            for rate, noise in ((1e-2, 0.3), (3e-3, 0.3), (3e-3, 1.0))
        }
        for scheme in ("maddpg", "qmix", "vdn")
    },
}
"""Settings tried for each learner, by a name for the tables."""

BEST: dict[str, str] = {
    "maasn-da": "rate 0.01",
    "mappo": "rate 0.01",
    "maddpg": "rate 0.003, noise 1.0",
    "qmix": "rate 0.003, noise 1.0",
    "vdn": "rate 0.01, noise 0.3",
}
"""The one that `demo.experiments.learners` found best."""

ABLATIONS: dict[str, dict[str, Any]] = {
    "maasn-da without action semantics": {"semantics": False},
    "maasn-da without augmentation": {"augmentation": "none"},
    "maasn-da, exact counterfactuals": {"augmentation": "exact"},
    "maasn-da without decomposition": {"decomposition": False},
    "maasn-da without gumbel noise": {"gumbel": False},
    "maasn-da, vdn critic": {"mixing": "vdn"},
    "maasn-da, qmix critic": {"mixing": "qmix"},
    "maasn-da without discount": {"discount": 0.0},
    "maasn-da told neighbours' forecasts": {"told": True},
}
"""What differs from the best MAASN-DA: a field of `MaasnConfig`, or of `MarlConfig`."""


def ablated(name: str, best: Setup) -> Setup:
    """MAASN-DA with one thing changed."""
    if best.own is None:
        raise ValueError(f"{best.scheme} has no ablations")
    changes = ABLATIONS[name]
    if "discount" in changes:
        return replace(best, config=replace(best.config, **changes))
    return replace(best, own=replace(best.own, **changes))


SPEEDS: dict[str, float] = {
    "maasn-da": 2.0,
    "mappo": 2.9,
    "maddpg": 2.7,
    "qmix": 4.2,
    "vdn": 4.5,
    "maasn-da without action semantics": 2.2,
    "maasn-da without augmentation": 2.2,
    "maasn-da, exact counterfactuals": 1.9,
    "maasn-da without decomposition": 2.0,
    "maasn-da without gumbel noise": 2.1,
    "maasn-da, vdn critic": 2.1,
    "maasn-da, qmix critic": 1.9,
    "maasn-da without discount": 2.0,
    "maasn-da told neighbours' forecasts": 2.0,
}
"""Episodes in a CPU second of a quiet core: budgets of time become whole numbers of episodes."""


def episodes_in(name: str, cpu_s: float) -> int:
    """Episodes of a learner or ablation in a budget of CPU time; an ablation plays no fewer than MAASN-DA."""
    speed = max(SPEEDS[name], SPEEDS["maasn-da"]) if name in ABLATIONS else SPEEDS[name]
    return max(1, round(speed * cpu_s))
