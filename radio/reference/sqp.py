"""Sequential quadratic programming on the guarantee itself: a second opinion on what a rank can do."""

import numpy as np
from scipy.optimize import NonlinearConstraint, minimize

from radio.fast.worst_case import worst_case
from radio.types import ComplexArray, FloatArray

__all__ = ["sequential_quadratic"]


def sequential_quadratic(
    g: ComplexArray,
    start: ComplexArray,
    error: FloatArray,
    root_power: FloatArray,
    num_rounds: int = 200,
) -> ComplexArray:
    """Maximise t with guarantee_k(v) >= t and ||v_n||^2 <= 1 by scipy's SLSQP, for any number of columns.

    A local method that shares nothing with the fixed point but the worst case.

    Args:
        g: Scaled CSI, (users, nodes, antennas).
        start: Beams to start from, (nodes, antennas, columns), with a positive guarantee.
        error: Scaled radius, (users,) joint or (users, nodes) per link.
        root_power: sqrt of the nodes' power, (nodes,).
        num_rounds: Quadratic programs at most.

    Returns:
        Beams with blocks of norm at most one, (nodes, antennas, columns).
    """
    program = _Program(g, start.shape, error, root_power)
    least = program.amplitude(start)[0].min()
    first: FloatArray = np.concatenate([start.real.ravel(), start.imag.ravel(), [least]])
    found = minimize(
        program.loss,
        first,
        jac=program.loss_slope,
        method="SLSQP",
        constraints=[
            NonlinearConstraint(program.margin, 0.0, np.inf, jac=program.margin_slope),
            NonlinearConstraint(program.room, 0.0, np.inf, jac=program.room_slope),
        ],
        tol=1e-9,
        options={"maxiter": num_rounds},
    )
    v = program.beams(found.x)
    return np.asarray(v / np.maximum(np.linalg.norm(v, axis=(1, 2), keepdims=True), 1.0))


class _Program:
    """The program in x = (Re v, Im v, t)."""

    def __init__(
        self, g: ComplexArray, shape: tuple[int, ...], error: FloatArray, root_power: FloatArray
    ) -> None:
        self.g, self.shape, self.error, self.root_power = g, shape, error, root_power

    def beams(self, x: FloatArray) -> ComplexArray:
        half = len(x) // 2
        return np.asarray((x[:half] + 1j * x[half:-1]).reshape(self.shape))

    def amplitude(self, v: ComplexArray) -> tuple[FloatArray, ComplexArray]:
        """Guaranteed amplitude of each user, and the channels that attain it."""
        worst = worst_case(self.g[None], v[None], self.error[None], self.root_power[None])
        return worst.amplitude[0], worst.channel[0]

    def loss(self, x: FloatArray) -> float:
        return -float(x[-1])

    def loss_slope(self, x: FloatArray) -> FloatArray:
        return np.asarray(np.append(np.zeros(len(x) - 1), -1.0))

    def margin(self, x: FloatArray) -> FloatArray:
        return np.asarray(self.amplitude(self.beams(x))[0] - x[-1])

    def margin_slope(self, x: FloatArray) -> FloatArray:
        """Slope of the amplitude on the worst channel (Danskin's theorem)."""
        v = self.beams(x)
        channel = self.amplitude(v)[1]
        received = np.einsum("kna,nac->kc", channel, v)
        received /= np.maximum(np.linalg.norm(received, axis=1, keepdims=True), 1e-12)
        slope = np.einsum("kna,kc->knac", channel.conj(), received).reshape(len(channel), -1)
        return np.hstack([slope.real, slope.imag, -np.ones((len(channel), 1))])

    def room(self, x: FloatArray) -> FloatArray:
        return np.asarray(1.0 - (np.abs(self.beams(x)) ** 2).sum(axis=(1, 2)))

    def room_slope(self, x: FloatArray) -> FloatArray:
        nodes = self.shape[0]
        slope = -2.0 * (np.eye(nodes)[:, :, None, None] * self.beams(x)).reshape(nodes, -1)
        return np.hstack([slope.real, slope.imag, np.zeros((nodes, 1))])
