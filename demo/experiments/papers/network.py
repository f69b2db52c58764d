"""One factor of the network at a time, around one setting on the real chain."""

from demo.bridge.csi import CsiError
from demo.experiments.papers.description import Air, Experiment, Point

ORIGIN = "Fu, Qin et al., fine-grained AI model caching with CoMP broadcasting, arXiv 2509.19341"
BASE = {"base": "default", "num_slots": 12, "requests": {"request_prob": 0.3}}
"""23 models of exact shape, 4 nodes of 15 %, 12 users, 100 MHz, 1 Gbit/s between nodes, 200 Mbit/s cloud; a
user asks with probability 0.3, so that band and links keep up along every axis."""
SCHEMES = ("no-cache", "lru", "rendezvous", "ewma-greedy", "pooled", "learned")
REFERENCE = "ewma-greedy"
COLD = "Caches start empty."

USERS = Experiment(
    name="users",
    question="How does delay grow with the number of users?",
    paper=ORIGIN,
    axis="users",
    points=tuple(Point(x=count, changes={"num_users": count}) for count in (4, 8, 12, 24, 36)),
    schemes=SCHEMES,
    references=(REFERENCE,),
    scenario=BASE,
    log_y=True,
    note=f"{COLD} Each user asks as often as before, so the load grows with their number.",
)
NODES = Experiment(
    name="nodes",
    question="How does delay fall with the number of nodes?",
    paper=ORIGIN,
    axis="edge nodes in the same area",
    points=tuple(Point(x=count, changes={"num_nodes": count}) for count in (4, 9, 16, 36, 64)),
    schemes=("lru", "rendezvous", "ewma-local", "pooled", "learned"),
    references=("ewma-local",),
    scenario={**BASE, "capacity_share": 0.05},
    log_x=True,
    log_y=True,
    note=f"{COLD} Each node has room for 5 % of the blocks, so four hold 20 % of them and 64 hold each three "
    "times over. Beyond 6 nodes `learned` is pooled coverage by its trained forecast: there is no clock over "
    "sets of so many nodes.",
)
ANTENNAS = Experiment(
    name="antennas",
    question="What do more antennas bring?",
    paper=ORIGIN,
    axis="antennas of a node",
    points=tuple(Point(x=count, air=Air(antennas=count)) for count in (1, 2, 4, 8, 16)),
    schemes=SCHEMES,
    references=(REFERENCE,),
    scenario=BASE,
    log_x=True,
    log_y=True,
    note=COLD,
)
BANDWIDTH = Experiment(
    name="bandwidth",
    question="What does more bandwidth bring?",
    paper=ORIGIN,
    axis="bandwidth (MHz)",
    points=tuple(Point(x=mhz, changes={"radio": {"bandwidth_hz": 1e6 * mhz}}) for mhz in (40, 60, 80, 100)),
    schemes=SCHEMES,
    references=(REFERENCE,),
    scenario=BASE,
    log_y=True,
    note=COLD,
)
BACKHAUL = Experiment(
    name="backhaul",
    question="What does a faster backhaul bring?",
    paper=ORIGIN,
    axis="backhaul rate (Gbit/s)",
    points=tuple(
        Point(x=rate, changes={"links": {"backhaul_bit_s": 1e9 * rate}}) for rate in (0.3, 1.0, 3.0, 10.0)
    ),
    schemes=SCHEMES,
    references=(REFERENCE,),
    scenario=BASE,
    log_x=True,
    log_y=True,
    note=COLD,
)
CLOUD = Experiment(
    name="cloud",
    question="What does a faster cloud bring?",
    paper=ORIGIN,
    axis="cloud rate (Mbit/s)",
    points=tuple(
        Point(x=rate, changes={"links": {"cloud_bit_s": 1e6 * rate}}) for rate in (50, 100, 200, 500, 1000)
    ),
    schemes=SCHEMES,
    references=(REFERENCE,),
    scenario=BASE,
    log_x=True,
    log_y=True,
    note=f"{COLD} At 50 Mbit/s links are given more than they can do: delays grow with a world's length.",
)
ZIPF = Experiment(
    name="zipf",
    question="How does delay depend on the skew of popularity?",
    paper="Every paper of the field; Breslau et al., 1999, for the exponents that were measured",
    axis="Zipf exponent",
    points=tuple(
        Point(x=skew, changes={"requests": {"zipf_exponent": skew}}) for skew in (0.0, 0.4, 0.8, 1.2, 1.6)
    ),
    schemes=SCHEMES,
    references=(REFERENCE,),
    scenario=BASE,
    log_y=True,
    note=COLD,
)
LOAD = Experiment(
    name="load",
    question="How does delay grow with the load?",
    paper=ORIGIN,
    axis="chance that a user asks in a slot",
    points=tuple(
        Point(x=chance, changes={"requests": {"request_prob": chance}}) for chance in (0.1, 0.3, 0.5, 0.7)
    ),
    schemes=SCHEMES,
    references=(REFERENCE,),
    scenario=BASE,
    log_y=True,
    note=f"{COLD} The columns `band` and `busiest_link` of the CSV say how busy they are.",
)
CSI = Experiment(
    name="csi",
    question="What do channels known only up to an error cost, with robust beams and without?",
    paper=ORIGIN,
    axis="radius of the error ball, share of each link's channel",
    points=tuple(
        Point(x=size, arm=design, air=Air(csi=CsiError(size=size, design=design)))
        for size in (0.0, 0.05, 0.1, 0.2)
        for design in ("robust", "nominal")
    ),
    schemes=("ewma-greedy",),
    references=("ewma-greedy, nominal",),
    scenario=BASE,
    measures=("delay_s", "outage"),
    note=f"{COLD} Errors are drawn evenly from the ball. A nominal broadcast that the true channel does not "
    "carry is lost and sent again at the rate that its users then report. A robust one holds for every "
    "channel in the ball, also for those that never occur: that is what it pays for.",
)
EXPERIMENTS = (USERS, NODES, ANTENNAS, BANDWIDTH, BACKHAUL, CLOUD, ZIPF, LOAD, CSI)
