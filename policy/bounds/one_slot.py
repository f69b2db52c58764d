"""Best placement for one known slot: linear and mixed-integer programme (HiGHS through scipy).

min  sum over j, C of T[j, C] z[j, C]
s.t. sum over C of z[j, C] = 1 for each block j,  sum over j and C with n in C of S_j z[j, C] <= room of n,
z >= 0 (LP), z in {0, 1} (MILP).
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import csr_array, kron
from scipy.sparse import eye_array as eye

from policy.errors import PolicyError
from policy.interfaces import Float, Int
from policy.slot.tables import mask_bits


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OneSlotBound:
    """Value of a programme, and its solution if it is a placement."""

    lower_s: float
    """No placement costs less, s."""
    cost_s: float
    """Cost of `masks`, s; equals `lower_s` up to the gap. inf for the LP."""
    masks: Int | None
    """Holders of each block, (blocks,); None for the LP."""


def lp_bound(table_s: Float, sizes_bytes: Int, capacity_bytes: Float) -> OneSlotBound:
    """Lower bound on the cost of any placement in one slot.

    Args:
        table_s: Cost of each block under each set of holders, (blocks, 2^nodes), s.
        sizes_bytes: (blocks,).
        capacity_bytes: (nodes,).

    Raises:
        PolicyError: If HiGHS does not reach the optimum.
    """
    pick, use = _rows(sizes_bytes, capacity_bytes.size)
    solution = linprog(  # type: ignore[call-overload, unused-ignore]  # the stubs know no sparse rows
        table_s.ravel(),
        A_ub=use,
        b_ub=capacity_bytes,
        A_eq=pick,
        b_eq=np.ones(sizes_bytes.size),
        bounds=(0, 1),
        method="highs",
    )
    if solution.status != 0:
        raise PolicyError(f"the linear programme was not solved: {solution.message}")
    return OneSlotBound(lower_s=float(solution.fun), cost_s=np.inf, masks=None)


def milp_optimum(
    table_s: Float, sizes_bytes: Int, capacity_bytes: Float, rel_gap: float = 1e-3, limit_s: float = 60.0
) -> OneSlotBound:
    """Best placement for one slot, to a relative gap. Arguments as for `lp_bound`.

    Raises:
        PolicyError: If HiGHS finds no placement in time.
    """
    pick, use = _rows(sizes_bytes, capacity_bytes.size)
    solution = milp(
        table_s.ravel(),
        integrality=np.ones(table_s.size, dtype=np.int64),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(pick, 1, 1), LinearConstraint(use, -np.inf, capacity_bytes)],
        options={"mip_rel_gap": rel_gap, "time_limit": limit_s},
    )
    if solution.x is None:
        raise PolicyError(f"the mixed-integer programme was not solved: {solution.message}")
    masks = np.asarray(solution.x.reshape(table_s.shape).argmax(axis=1), dtype=np.int64)
    cost = float(table_s[np.arange(masks.size), masks].sum())
    lower = float(solution.mip_dual_bound) if solution.mip_dual_bound is not None else -np.inf
    return OneSlotBound(lower_s=min(lower, cost), cost_s=cost, masks=masks)


def _rows(sizes_bytes: Int, nodes: int) -> tuple[csr_array, csr_array]:
    """One set a block, (blocks, blocks x sets); bytes on each node, (nodes, blocks x sets)."""
    sets = mask_bits(nodes).astype(np.float64)
    pick = kron(eye(sizes_bytes.size), np.ones((1, sets.shape[0])), format="csr")
    use = kron(np.asarray(sizes_bytes, dtype=np.float64)[None, :], sets.T, format="csr")
    return csr_array(pick), csr_array(use)
