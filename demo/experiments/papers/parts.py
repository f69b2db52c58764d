"""What other papers do with parts of models, on the zoo's weights and real channels."""

from collections.abc import Mapping
from typing import Any

from demo.experiments.papers.description import Experiment, Point, Values
from demo.experiments.papers.models.fused import MATCHED, PAIRS, PLAIN, score_fused
from demo.experiments.papers.models.nested import score_nested
from demo.experiments.papers.models.received import FILE, ORDERS, score_received
from demo.experiments.papers.models.tiers import TIERS, score_tier
from demo.experiments.papers.models.versions import BLOCKS, DELTAS, WHOLE, staleness_of
from demo.experiments.papers.superposed import AT_ONCE, chain_with
from demo.experiments.papers.two_blocks import BESIDE, BETTER, ONCE, TURN, times_of_two
from policy.scenario import Scenario

UNUSED = {"base": "default", "catalog": "findings", "num_slots": 1}
"""No slot is played."""
NEWS, MOOD = "zoo/minilm-bbc", "zoo/minilm-tweets"
EMBEDDERS = ("sentence-transformers/all-MiniLM-L6-v2", "senthilthepro/sre-embedding-model")


def arrival(_: Scenario, settings: Mapping[str, Any], seed: int) -> dict[str, Values]:
    """`score_received` of the model and the per cent that the settings name."""
    scores = score_received(settings["model"], settings["percent"] / 100, seed)
    return {order: {"score": score} for order, score in scores.items()}


def tiers(_: Scenario, settings: Mapping[str, Any], seed: int) -> dict[str, Values]:
    """`score_tier` of each classifier; nothing is drawn."""
    return {name: score_tier(name, settings["tier"]) for name in (NEWS, MOOD)}


def nested(_: Scenario, settings: Mapping[str, Any], seed: int) -> dict[str, Values]:
    """`score_nested` of each embedding model; nothing is drawn."""
    layers = int(settings["layers"])
    return {name: score_nested(name)[layers] for name in EMBEDDERS}


def fusion(_: Scenario, settings: Mapping[str, Any], seed: int) -> dict[str, Values]:
    """`score_fused` of the pair and the per cent of the second parent that the settings name."""
    return dict(score_fused(settings["pair"], settings["percent"] / 100, seed))


def versions(_: Scenario, settings: Mapping[str, Any], seed: int) -> dict[str, Values]:
    """`staleness_of` with the settings' `period_s` and `rate_bit_s`."""
    return dict(staleness_of(settings["period_s"], settings["rate_bit_s"], seed))


ARRIVAL = Experiment(
    name="arrival",
    question="How well does a model serve when only a part of it has arrived?",
    paper="FedDD, arXiv 2308.16835: parameters of large importance first",
    axis="share of the changed bytes that has come (%)",
    points=tuple(
        Point(x=percent, settings={"model": NEWS, "percent": percent}, most_worlds=6)
        for percent in (0, 5, 10, 25, 50, 75, 100)
    ),
    schemes=ORDERS,
    references=(FILE,),
    scenario=UNUSED,
    measures=("score",),
    note="BBC news in five classes, 300 rows held out; MiniLM is there, 14.2 MB of its fine-tune are to come "
    "(two layers, pooler and head). A world draws 64 training rows on which losses are measured, and the "
    "order at random. The head is last in the file.",
    player=arrival,
)
TIERED = Experiment(
    name="tiers",
    question="What does a coarse copy first cost those who want the model bit for bit?",
    paper="FedDD and PARTEL send parts of models; successive refinement (Equitz and Cover, 1991)",
    axis="first tier",
    points=tuple(Point(x=tier, settings={"tier": tier}, most_worlds=1) for tier in TIERS),
    schemes=(NEWS, MOOD),
    references=(),
    scenario=UNUSED,
    measures=("score", "first_mb", "exact_mb"),
    note="All tensors of the classifier in float32, none of them at the device. int8 and int4 have one scale "
    "a row and no calibration; sizes are of the store's coded forms, decoded again and compared.",
    player=tiers,
)
NESTED = Experiment(
    name="nested",
    question="How small may the first model be that grows into the whole?",
    paper="SFSC: nested sub-models, small first, upgraded later",
    axis="layers of the encoder that have come",
    points=tuple(Point(x=n, settings={"layers": n}, most_worlds=1) for n in range(1, 7)),
    schemes=EMBEDDERS,
    references=(),
    scenario=UNUSED,
    measures=("score", "first_mb", "upgrade_mb"),
    note="Nearest centroid on BBC news, 200 rows held out, 200 for the centroids. Each smaller model is a "
    "folder that `from_pretrained` loads; nothing was trained for it: what depth is worth as it is.",
    player=nested,
)
FRESHNESS = Experiment(
    name="versions",
    question="How stale are models at the edge that get new versions over one link?",
    paper="CEMA: models adapted in the cloud, updates for the edge",
    axis="mean time between versions of one model (s)",
    points=tuple(
        Point(x=period, settings={"period_s": float(period), "rate_bit_s": 100e6})
        for period in (30, 100, 300, 1000, 3000)
    ),
    schemes=(WHOLE, BLOCKS, DELTAS),
    references=(WHOLE,),
    scenario=UNUSED,
    measures=("stale_s",),
    log_x=True,
    log_y=True,
    note="20 models on a link of 100 Mbit/s; a version is as large as the zoo's update of its BBC classifier "
    "(MiniLM, one layer trained on), beside the version before. Times between versions are exponential.",
    player=versions,
)
TOGETHER = Experiment(
    name="together",
    question="When do two blocks at once, or on subbands, each for its own users, beat one after the other?",
    paper="PARTEL: superposed parts of models, with unequal power",
    axis="users of each of two blocks",
    points=tuple(Point(x=users, settings={"users": users, "antennas": 8}) for users in (1, 2, 4, 6, 10)),
    schemes=(TURN, BESIDE, ONCE, BETTER),
    references=(TURN,),
    scenario=UNUSED,
    measures=("air_s",),
    log_y=True,
    note="Two blocks of 4 MB, 4 nodes of 8 antennas that all hold both, 100 MHz, TR 38.901 UMi. At once: "
    "weighted MMSE beams, interference as noise, a good point, not a proven one. In turn: `solve_broadcast`. "
    "Subbands: each block on its share of the band with its share of every node's power, both chosen.",
    player=times_of_two,
)
FUSED = Experiment(
    name="fusion",
    question="Does an average of two models serve if their neurons are matched first?",
    paper="OT fusion: Singh and Jaggi, Model Fusion via Optimal Transport, NeurIPS 2020",
    axis="weight of the second parent (%)",
    points=tuple(
        Point(x=percent, settings={"pair": pair, "percent": percent}, arm=pair, most_worlds=3)
        for pair in PAIRS
        for percent in (0, 25, 50, 75, 100)
    ),
    schemes=(PLAIN, MATCHED),
    references=tuple(f"{PLAIN}, {pair}" for pair in PAIRS),
    scenario=UNUSED,
    measures=("score",),
    note="BBC news in five classes, 300 rows held out. One lineage: MiniLM's classifier and its update. "
    "Trained apart: the upper two layers, the pooler and the head of both began from their own random "
    "numbers. A world renames the second parent's neurons and heads at random, which changes nothing that it "
    "computes.",
    player=fusion,
)
CHAIN = Experiment(
    name="superposed-chain",
    question="What do blocks on the air at once bring to the users of the real chain?",
    paper="PARTEL: superposed parts of models; here each block for users of its own, in every slot",
    axis="scenario and scheme",
    points=tuple(
        Point(
            x=f"{name} {scheme}",
            changes={"base": name, "num_slots": 12},
            settings={"scheme": scheme},
            plays=(scheme,),
        )
        for name in ("p2", "v30", "default")
        for scheme in ("no-cache", "ewma-greedy", "pooled", "learned")
    ),
    schemes=tuple(AT_ONCE),
    references=(TURN,),
    measures=("user_delay_s", "p95_s"),
    log_y=True,
    joined=False,
    note="Caches start empty, 12 slots a world. Beams treat one another as noise; the plan of each slot is "
    "searched for blocks at once, and a block waits for its own copies only. `band` of the CSV is the time "
    "in which anything is on the air, as a share of a slot.",
    player=chain_with,
)
EXPERIMENTS = (ARRIVAL, TIERED, NESTED, FRESHNESS, TOGETHER, FUSED, CHAIN)
