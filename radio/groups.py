"""Splitting users into groups served one after another, so that one far user need not slow everybody."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from radio.errors import BadInputError
from radio.inputs import as_complex, as_real, reject
from radio.problem import Problem, normalise
from radio.solve import solve_broadcast
from radio.types import BoolArray, FloatArray

__all__ = ["GroupPlan", "plan_groups"]

Objective = Literal["airtime", "mean-delay"]
Rates = Callable[[BoolArray], FloatArray]
"""Masks of users, (batch, users), -> guaranteed rate of each broadcast."""
_EXACT_USERS = 7
"""Up to this many users every subset is solved (127 broadcasts)."""
_MOST_CUTS = 24
"""Beyond this many users, groups are unions of this many runs of users."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupPlan:
    """Groups in the order in which they are served; times in seconds for one bit per hertz of bandwidth."""

    groups: tuple[tuple[int, ...], ...]
    """Users of each group."""
    rates_bit_s_hz: tuple[float, ...]
    """Guaranteed rate of each group's broadcast."""
    time_s_hz_bit: float
    """Sum of 1 / rate: seconds until the last user has a block of one bit over one hertz."""
    mean_delay_s_hz_bit: float
    """Mean over users of the time until their group is done."""
    single_s_hz_bit: float
    """Time with all users in one group."""
    exact: bool
    """Whether every partition was considered."""
    dropped: tuple[int, ...] = ()
    """Users who wait but are in no group: they hear no holder, or their CSI error leaves nothing to guarantee
    even alone. The times are of the others."""


def plan_groups(
    h: ArrayLike,
    power_w: ArrayLike,
    noise_w: ArrayLike,
    holders: ArrayLike | None = None,
    users: ArrayLike | None = None,
    objective: Objective = "airtime",
    on_dead_user: Literal["drop", "error"] = "drop",
    **options: Any,  # noqa: ANN401
) -> GroupPlan:
    """Choose groups that make the airtime or the mean delay least.

    Up to seven users every subset is solved and the best ordered partition found by dynamic programming over
    subsets (exact, given the solver). Beyond, users are lined up by their matched-filter SNR and, in a second
    try, by the node they hear best; all runs of neighbours are solved in one batch and cut by dynamic
    programming. One group of all users is always among the candidates, so a plan is never worse than that.

    Args:
        h: CSI, (users, nodes, antennas).
        power_w: (nodes) or one for all, W.
        noise_w: (users) or one for all, W.
        holders: Nodes that may send, bool (nodes), or None.
        users: Users that wait, bool (users), or None.
        objective: "airtime" (until the last user has it) or "mean-delay".
        on_dead_user: A waiting user whom no group can serve, as it hears no holder or its CSI error outweighs
            its channel: "drop" leaves it out and names it in `dropped`; "error" refuses.
        **options: Passed to `radio.solve_broadcast`, such as csi_error or rank.

    Returns:
        The plan; without users an empty one, without holders one group of infinite time, and where all users
        are left out no group and infinite time.
    """
    csi = as_complex("h", h, "users, nodes, antennas")
    if csi.ndim != 3 or objective not in ("airtime", "mean-delay") or on_dead_user not in ("drop", "error"):
        expected = "(users, nodes, antennas), airtime|mean-delay, drop|error"
        got = f"{csi.shape}, {objective}, {on_dead_user}"
        raise BadInputError("h, objective, on_dead_user", expected, got)
    error, ball = options.pop("csi_error", None), options.pop("ball", None)
    problem = normalise(csi, power_w, noise_w, holders, users, error, ball=ball)
    if problem.batch_shape not in ((), (1,)):
        raise BadInputError("power_w, noise_w, holders, users", "one broadcast", str(problem.batch_shape))
    if problem.error is not None:  # with the batch axis of the masks in front, nothing is left to guess
        error, ball = as_real("csi_error", error)[None], "joint" if problem.error.ndim == 2 else "link"
        options |= {"csi_error": error, "ball": ball}
    hopeless = problem.dropped[0] | _in_outage(problem)
    reject(
        "users", hopeless & (on_dead_user == "error"), "users that can be served", "none of it reaches them"
    )
    dropped = tuple(int(user) for user in np.flatnonzero(hopeless))
    members = np.flatnonzero(problem.users[0] & ~hopeless)
    if not len(members):
        return _plan([], [], np.inf if dropped else 0.0, dropped, exact=True)

    def rates(masks: BoolArray) -> FloatArray:
        full = np.zeros((len(masks), len(csi)), dtype=bool)
        full[:, members] = masks
        return solve_broadcast(csi, power_w, noise_w, holders, full, **options).rate_bit_s_hz

    if len(members) <= _EXACT_USERS:
        groups, speeds, single = _best_partition(len(members), rates, objective)
    else:
        heard = np.linalg.norm(problem.g[0, members], axis=2)
        strength, nearest = heard.sum(axis=1), heard.argmax(axis=1)
        orders = [np.argsort(-strength), np.lexsort((-strength, nearest))]
        found = [_best_cuts(order, rates, objective) for order in orders]
        groups, speeds, single = min(found, key=lambda plan: _cost(plan[0], plan[1], objective))
    named = [tuple(sorted(int(members[i]) for i in group)) for group in groups]
    return _plan(named, speeds, single, dropped, exact=len(members) <= _EXACT_USERS)


def _in_outage(problem: Problem) -> BoolArray:
    """Users to whom nothing can be guaranteed even alone, (users,); none where no node holds the block."""
    if problem.error is None or not problem.holders[0].any():
        return np.zeros(problem.users.shape[1], dtype=bool)
    g, error = problem.g[0][:, None], problem.error[0][:, None]
    root = np.sqrt(problem.power_w[0]) * problem.holders[0]
    found = solve_broadcast(
        np.where(root[:, None] > 0, g / np.where(root > 0, root, 1.0)[:, None], 0.0),
        root**2,
        1.0,
        csi_error=error,
        certify="none",
        ball="joint" if error.ndim == 2 else "link",
    )
    return np.asarray(problem.users[0] & (found.worst_snr == 0))


def _times(speeds: list[float]) -> list[float]:
    return [1.0 / speed if speed > 0 else np.inf for speed in speeds]


def _cost(groups: list[tuple[int, ...]], speeds: list[float], objective: Objective) -> float:
    """Total time, or mean time until a user's group is done."""
    ends = np.cumsum(_times(speeds))
    if objective == "airtime":
        return float(ends[-1])
    sizes = np.array([len(group) for group in groups])
    return float((ends * sizes).sum() / sizes.sum())


def _ordered(groups: list[tuple[int, ...]], speeds: list[float]) -> tuple[list[tuple[int, ...]], list[float]]:
    """Shortest time per user first (Smith's rule): least mean delay for given groups."""
    times = _times(speeds)
    order = sorted(range(len(groups)), key=lambda i: times[i] / len(groups[i]))
    return [groups[i] for i in order], [speeds[i] for i in order]


def _plan(
    groups: list[tuple[int, ...]],
    speeds: list[float],
    single: float,
    dropped: tuple[int, ...],
    *,
    exact: bool,
) -> GroupPlan:
    return GroupPlan(
        groups=tuple(groups),
        rates_bit_s_hz=tuple(speeds),
        time_s_hz_bit=_cost(groups, speeds, "airtime") if groups else single,
        mean_delay_s_hz_bit=_cost(groups, speeds, "mean-delay") if groups else single,
        single_s_hz_bit=single,
        exact=exact,
        dropped=dropped,
    )


def _best_partition(
    count: int, rates: Rates, objective: Objective
) -> tuple[list[tuple[int, ...]], list[float], float]:
    """Dynamic programming over subsets: the group served first makes everybody still there wait."""
    subsets = np.arange(1, 1 << count)
    masks = (subsets[:, None] >> np.arange(count)) & 1 == 1
    speed = np.concatenate([[np.inf], rates(masks)])
    best, choice = np.full(1 << count, np.inf), np.zeros(1 << count, dtype=int)
    best[0] = 0.0
    for whole in range(1, 1 << count):
        part, weight = whole, bin(whole).count("1") if objective == "mean-delay" else 1
        choice[whole] = whole
        while part:
            cost = (weight / speed[part] if speed[part] > 0 else np.inf) + best[whole & ~part]
            if cost < best[whole] * (1 - 1e-12):
                best[whole], choice[whole] = cost, part
            part = (part - 1) & whole
    groups, left = [], (1 << count) - 1
    while left:
        groups.append(int(choice[left]))
        left &= ~groups[-1]
    members = [tuple(i for i in range(count) if group >> i & 1) for group in groups]
    return *_ordered(members, [float(speed[group]) for group in groups]), _times([float(speed[-1])])[0]


def _best_cuts(
    order: np.ndarray,
    rates: Rates,
    objective: Objective,
) -> tuple[list[tuple[int, ...]], list[float], float]:
    """Cut a line of users into runs; served from the front."""
    edges = np.unique(np.linspace(0, len(order), min(len(order), _MOST_CUTS) + 1).astype(int))
    pieces = [(i, j) for i in range(len(edges)) for j in range(i + 1, len(edges))]
    masks = np.zeros((len(pieces), len(order)), dtype=bool)
    for row, (i, j) in enumerate(pieces):
        masks[row, order[edges[i] : edges[j]]] = True
    speed = dict(zip(pieces, map(float, rates(masks)), strict=True))
    best, choice = np.full(len(edges), np.inf), np.zeros(len(edges), dtype=int)
    best[-1] = 0.0
    last = len(edges) - 1
    for i in range(last - 1, -1, -1):
        weight = len(order) - edges[i] if objective == "mean-delay" else 1
        costs = [weight * _times([speed[i, j]])[0] + best[j] for j in range(i + 1, last + 1)]
        # With equal costs, as when all are infinite, the longest run wins: one group.
        pick = len(costs) - 1 - int(np.argmin(costs[::-1]))
        best[i], choice[i] = costs[pick], i + 1 + pick
    groups, speeds, i = [], [], 0
    while i < last:
        j = int(choice[i])
        groups.append(tuple(int(k) for k in order[edges[i] : edges[j]]))
        speeds.append(speed[i, j])
        i = j
    return *_ordered(groups, speeds), _times([speed[0, last]])[0]
