"""Channels of Sionna and DeepMIMO: what a user receives is the same number in their axes and in ours."""

from pathlib import Path

import numpy as np
import pytest

from radio import (
    BadInputError,
    ChannelFile,
    broadcast_snr,
    draw_iid,
    from_deepmimo,
    from_sionna,
    from_sionna_paths,
    load_channel,
    save_channel,
)

FREQUENCIES = np.array([-15e6, 0.0, 20e6])


def _draw(*shape: int) -> np.ndarray:
    return draw_iid(shape[0], shape[1], shape[2], np.random.default_rng(0), shape[3:]).reshape(shape)


def test_sionna_s_y_is_h_x_in_our_axes() -> None:
    h_freq = _draw(2, 5, 3, 4, 6, 2, 7)  # batch, users, receive, nodes, antennas, times, subcarriers
    w = _draw(4, 6, 1)

    ours = from_sionna(h_freq)

    assert ours.shape == (7, 2, 2, 5, 3, 4, 6)
    y = np.einsum("burnats,na->sbtur", h_freq, w[..., 0])  # ApplyOFDMChannel
    assert np.einsum("sbturna,na->sbtur", ours, w[..., 0]) == pytest.approx(y)
    single = from_sionna(h_freq[:, :, :1])
    assert single.shape == (7, 2, 2, 5, 4, 6)
    assert broadcast_snr(single, w, 1.0) == pytest.approx(np.abs(y[..., 0]) ** 2)
    assert (from_sionna(h_freq[0]) == ours[:, :1]).all()  # Sionna RT has no batch


def test_sionna_s_paths_add_up_over_frequency() -> None:
    rng = np.random.default_rng(0)
    a, tau = _draw(2, 3, 1, 4, 5, 6, 2), rng.uniform(0.0, 1e-6, (2, 3, 4, 6))

    ours = from_sionna_paths(a, tau, FREQUENCIES)

    for f, frequency in enumerate(FREQUENCIES):
        turned = a[:, :, 0] * np.exp(-2j * np.pi * frequency * tau)[:, :, :, None, :, None]
        assert ours[f] == pytest.approx(np.moveaxis(turned.sum(axis=4), -1, 1))
    wide = np.broadcast_to(tau[:, :, None, :, None], (2, 3, 1, 4, 5, 6))
    assert from_sionna_paths(a, wide, FREQUENCIES) == pytest.approx(ours)


def test_deepmimo_s_nodes_and_subcarriers_find_their_axes() -> None:
    nodes = [_draw(5, 1, 4, 8), _draw(5, 1, 4, 8)]

    ours = from_deepmimo(nodes, num_subcarriers=512)

    assert ours.shape == (8, 5, 2, 4)
    for n, node in enumerate(nodes):
        assert ours[:, :, n] == pytest.approx(np.moveaxis(node[:, 0], -1, 0) * np.sqrt(512.0))
    assert from_deepmimo(_draw(5, 3, 4, 8)).shape == (8, 5, 3, 1, 4)
    assert from_deepmimo(_draw(5, 1, 4, 8, 6)).shape == (8, 6, 5, 1, 4)


def test_foreign_channels_survive_a_channel_file(tmp_path: Path) -> None:
    h = from_deepmimo([_draw(5, 1, 4, 8)] * 2)
    save_channel(tmp_path / "channel.npz", ChannelFile(h=h))

    assert (load_channel(tmp_path / "channel.npz").h == h).all()


def test_other_axes_are_refused_by_name() -> None:
    good = _draw(2, 3, 1, 4, 5, 6, 2)
    for call in (
        lambda: from_sionna(_draw(2, 3, 4)),
        lambda: from_sionna(np.full((1, 1, 1, 1, 1, 1, 1), np.nan)),
        lambda: from_sionna_paths(good[0], np.zeros((2, 3, 4, 6)), FREQUENCIES),
        lambda: from_sionna_paths(good, np.zeros((2, 3, 4, 5)), FREQUENCIES),
        lambda: from_sionna_paths(good, np.zeros((2, 9, 4, 6)), FREQUENCIES),
        lambda: from_deepmimo([]),
        lambda: from_deepmimo([_draw(5, 1, 4, 8), _draw(4, 1, 4, 8)]),
        lambda: from_deepmimo(_draw(5, 1, 4)),
    ):
        with pytest.raises(BadInputError, match=r"h_freq|^a:|tau_s|channels"):
            call()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_sionna_itself_receives_the_same() -> None:
    pytest.importorskip("sionna", reason="sionna-no-rt is not installed: pip install sionna-no-rt")
    import torch
    from sionna.phy.channel import ApplyOFDMChannel, cir_to_ofdm_channel

    a, tau = _draw(2, 3, 1, 4, 5, 6, 2), np.random.default_rng(0).uniform(0.0, 1e-6, (2, 3, 4, 6))
    cir = torch.tensor(a, dtype=torch.complex64), torch.tensor(tau, dtype=torch.float32)
    h_freq = cir_to_ofdm_channel(torch.tensor(FREQUENCIES, dtype=torch.float32), *cir)
    sent = _draw(2, 4, 5)
    x = torch.tensor(np.broadcast_to(sent[..., None, None], (2, 4, 5, 2, 3)).copy(), dtype=torch.complex64)
    y = ApplyOFDMChannel()(x, h_freq).numpy()[:, :, 0]  # batch, users, times, subcarriers

    for ours in (from_sionna(h_freq), from_sionna_paths(*cir, FREQUENCIES)):
        assert np.einsum("sbtuna,bna->buts", ours, sent) == pytest.approx(y, abs=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_deepmimo_itself_gives_the_gain_of_its_paths() -> None:
    deepmimo = pytest.importorskip("deepmimo.generator.channel", reason="pip install deepmimo")
    rng = np.random.default_rng(0)
    power, delay = rng.uniform(0.1, 1.0, (6, 1)), rng.uniform(0.0, 1e-7, (6, 1))
    grid = {
        "subcarriers": 512,
        "bandwidth": 50e6,
        "selected_subcarriers": np.arange(0, 512, 64),
        "rx_filter": 0,
    }
    made = deepmimo._generate_mimo_channel(
        np.exp(1j * rng.uniform(0.0, 6.0, (6, 1, 4, 1))),
        power=power,
        delay=delay,
        phase=rng.uniform(0.0, 360.0, (6, 1)),
        doppler=np.zeros((6, 1)),
        ofdm_params=grid,
    )

    ours = from_deepmimo(made, num_subcarriers=512)

    assert ours.shape == (8, 6, 1, 4)
    assert np.abs(ours[..., 0, :]) ** 2 == pytest.approx(np.broadcast_to(power, (8, 6, 4)), rel=1e-4)
    step = np.angle(ours[1:] / ours[:-1])[..., 0, 0]
    turn = -2.0 * np.pi * delay[:, 0] * 50e6 / 512 * 64
    assert np.exp(1j * step) == pytest.approx(np.broadcast_to(np.exp(1j * turn), step.shape), abs=1e-3)
