"""Phase and timing errors between nodes: the exact law of the expected SNR."""

import numpy as np
import pytest

from radio import BadInputError, broadcast_snr, draw_iid, draw_phases, expected_snr, node_coherence


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("std", [0.0, 0.3, 1.0, 10.0])
def test_the_expected_snr_is_the_mean_over_errors(std: float, rank: int) -> None:
    rng = np.random.default_rng(0)
    h = draw_iid(5, 4, 3, rng)
    w = draw_iid(4, 3, rank, rng)
    many = h * draw_phases(std, (40_000, 1, 4), rng)[..., None]

    mean = broadcast_snr(many, w, 0.5).mean(axis=0)

    assert expected_snr(h, w, 0.5, node_coherence(std)) == pytest.approx(mean, rel=0.03)


def test_timing_errors_are_phase_errors_that_grow_over_the_band() -> None:
    rng = np.random.default_rng(0)
    h, w = draw_iid(4, 3, 2, rng), draw_iid(3, 2, 1, rng)
    timing, bandwidth = 4e-9, 100e6
    offsets = (np.arange(40) + 0.5) / 40 * bandwidth - bandwidth / 2.0
    errors = timing * rng.standard_normal((3000, 1, 1, 3))
    turned = h * np.exp(-2j * np.pi * offsets[:, None, None] * errors)[..., None]

    mean = broadcast_snr(turned, w, 1.0).mean(axis=(0, 1))

    coherence = node_coherence(0.0, timing, bandwidth)
    assert expected_snr(h, w, 1.0, coherence) == pytest.approx(mean, rel=0.03)
    narrow = expected_snr(h, w, 1.0, node_coherence(0.0, timing, 1.0))
    assert narrow == pytest.approx(broadcast_snr(h, w, 1.0))


def test_equal_nodes_lose_from_n_squared_to_n() -> None:
    for nodes in (1, 2, 8):
        h, w = np.ones((1, nodes, 1), complex), np.ones((nodes, 1, 1), complex)
        for std in (0.0, 0.2, 1.0, 20.0):
            c = np.exp(-(std**2))
            expected = c * nodes**2 + (1.0 - c) * nodes
            assert expected_snr(h, w, 1.0, node_coherence(std))[0] == pytest.approx(expected)


def test_one_node_loses_nothing_and_coherence_falls_with_every_error() -> None:
    rng = np.random.default_rng(0)
    h, w = draw_iid(6, 1, 4, rng), draw_iid(1, 4, 1, rng)

    assert expected_snr(h, w, 1.0, node_coherence(2.0)) == pytest.approx(broadcast_snr(h, w, 1.0))
    stds = np.linspace(0.0, 3.0, 50)
    assert (np.diff(node_coherence(stds)) < 0).all()
    assert (np.diff(node_coherence(0.1, stds * 1e-8, 100e6)) < 0).all()
    assert node_coherence(0.0) == 1.0
    with pytest.raises(BadInputError):
        node_coherence(-0.1)
