"""What fits on a node, how much models share, and in which units they are cached."""

from demo.experiments.papers.description import Experiment, Point
from demo.experiments.papers.network import BASE, COLD, ORIGIN, REFERENCE, SCHEMES

LARGE = {**BASE, "slot_s": 60.0, "requests": {"request_prob": 0.2}}
"""Models of 0.7 GB in the mean take 6 s on the air each: slots of a minute."""

CAPACITY = Experiment(
    name="capacity",
    question="How does delay fall with the room of a node, on architectures of up to 632 M parameters?",
    paper=ORIGIN,
    axis="room of a node (GB)",
    points=tuple(
        Point(x=room, catalog="architectures", changes={"capacity_bytes": [1e9 * room]})
        for room in (2, 4, 6, 8)
    ),
    schemes=SCHEMES,
    references=(REFERENCE,),
    scenario=LARGE,
    log_y=True,
    note=f"{COLD} ResNet-18 to -152 and ViT-B, -L and -H by exact shape in single precision, each with two "
    "tasks of three children (a quarter tuned, half tuned, and LoRA for ViT): 46 models, 12.5 GB of "
    "distinct blocks. Real sizes and sharing, no weights.",
)
CAPACITY_ZOO = Experiment(
    name="capacity-zoo",
    question="How does delay fall with the room of a node, on models with real weights?",
    paper=ORIGIN,
    axis="room of a node (% of all blocks)",
    points=tuple(Point(x=share, changes={"capacity_share": share / 100}) for share in (5, 10, 20, 40)),
    schemes=SCHEMES,
    references=(REFERENCE,),
    scenario={"base": "p1", "num_slots": 12},
    log_y=True,
    note=f"{COLD} The small zoo as its store holds it, deltas included; scenario `p1`, cloud at 100 Mbit/s.",
)
GRANULARITY = Experiment(
    name="granularity",
    question="What do fine blocks bring over whole models, in both definitions of coarse caching?",
    paper=f"{ORIGIN}, whose headline is 67.86 % less delay; here a direction only",
    axis="room of a node (% of all blocks)",
    points=tuple(Point(x=share, changes={"capacity_share": share / 100}) for share in (10, 20, 30, 50)),
    schemes=("whole-model", "whole-model-shared-air", "lru", "ewma-greedy", "learned"),
    references=("whole-model", "whole-model-shared-air"),
    scenario={**BASE, "requests": {"request_prob": 0.15}},
    log_y=True,
    note=f"{COLD} `whole-model`: whole models in the caches, and each is sent whole, as one piece: over "
    "one node's link, on the air once all of it is there, once for all who ask for it. "
    "`whole-model-shared-air`: whole models in the caches, but blocks come over all links and are sent as "
    "they come, once for all who miss them. The others cache blocks, too. Users ask with probability 0.15, "
    "so that the band can still carry whole models.",
)
SHARING = Experiment(
    name="sharing",
    question="How does delay depend on how much the models share?",
    paper="TrimCaching, arXiv 2405.03990 and 2404.14204, and the origin paper",
    axis="what a fine-tune shares with its base",
    points=(
        Point(x="nothing", catalog="sharing-none"),
        Point(x="half its layers", catalog="sharing-half"),
        Point(x="three quarters", catalog="sharing-three-quarters"),
        Point(x="all but the top", catalog="sharing-heads"),
    ),
    schemes=("whole-model", *SCHEMES[1:]),
    references=(REFERENCE,),
    scenario={**LARGE, "slot_s": 20.0, "requests": {"request_prob": 0.3}, "capacity_bytes": [0.7e9]},
    log_y=True,
    note=f"{COLD} Always 8 bases of ResNet and ViT by exact shape in half precision, each with two "
    "fine-tunes; models and rooms (0.7 GB) have the same bytes everywhere, only what is equal among "
    "them differs: 7.1, 4.9, 3.6 and 2.5 GB of distinct blocks.",
)
ADAPTERS = Experiment(
    name="adapters",
    question="What do LoRA adapters in place of full fine-tunes bring?",
    paper="Origin paper and TrimCaching, arXiv 2404.14204",
    axis="fine-tunes of ViT",
    points=(Point(x="all weights", catalog="vit-tuned"), Point(x="LoRA, rank 16", catalog="vit-adapters")),
    schemes=("whole-model", *SCHEMES[1:]),
    references=(REFERENCE,),
    scenario={**LARGE, "capacity_bytes": [0.7e9]},
    log_y=True,
    note=f"{COLD} ViT-B, -L and -H by exact shape in half precision, three children each, 0.7 GB a node.",
)
LLAMA = Experiment(
    name="llama",
    question="Llama 2 7B and 13B with adapters: how does delay fall with the room of a node?",
    paper=ORIGIN,
    axis="room of a node (GB)",
    points=tuple(
        Point(x=room, changes={"capacity_bytes": [1e9 * room]}, catalog="llama-adapters")
        for room in (4, 8, 16, 32)
    ),
    schemes=SCHEMES,
    references=(REFERENCE,),
    scenario={
        **LARGE,
        "slot_s": 900.0,
        "requests": {"request_prob": 0.1},
    },
    log_y=True,
    note=f"{COLD} Both bases in half precision by exact shape (13.5 and 26 GB) with four LoRA adapters of "
    "rank 16 each; 1 Gbit/s between nodes, 200 Mbit/s from the cloud, slots of 15 minutes; devices keep "
    "nothing, so each delivery is a whole model.",
)
EXPERIMENTS = (CAPACITY, CAPACITY_ZOO, GRANULARITY, SHARING, ADAPTERS, LLAMA)
