"""Each device loses packets by how far its SNR is above what the broadcast is coded for."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from demo.bridge.radio_delay import RadioDelay
from demo.emulation.air.loss import TARGET, loss_of_margin
from demo.emulation.log import read_log
from demo.emulation.log.events import Broadcast
from demo.emulation.roles.mind import Minds
from demo.emulation.wire.band import MemoryBand
from demo.jobs.emulate import LOG_NAME, emulate
from demo.jobs.emulate_config import EmulateConfig
from policy.play.growing import GrowingPlaces
from policy.world.mobility import grid_nodes
from radio import DEFAULT_EFFORT, RadioConfig, broadcast_snr, draw_channel, solve_broadcast
from tests.demo.emulation.conftest import small_run

HOLDERS, USERS = (0, 2), (0, 1, 4)


@pytest.fixture(scope="module")
def delay() -> RadioDelay:
    config = RadioConfig(num_nodes=4, num_antennas=2, num_users=5)
    places = np.random.default_rng(3).uniform(0, 500, (1, 5, 2))
    return RadioDelay(config, GrowingPlaces(grid_nodes(4, 500.0), [places[0]]), seed=7)


def test_the_weakest_user_has_no_margin_and_the_others_theirs(delay: RadioDelay) -> None:
    told = delay.margins_db(0, HOLDERS, USERS)
    config = delay._config
    rng = np.random.default_rng([7, 1, 0])
    h = draw_channel(delay._deployment, delay._trace.user_xy[0], rng)
    sends, hears = np.isin(np.arange(4), HOLDERS)[None], np.isin(np.arange(5), USERS)[None]
    beams = solve_broadcast(
        h, config.power_w, config.noise_w, holders=sends, users=hears, rng=rng, effort=DEFAULT_EFFORT
    ).w
    snr = broadcast_snr(h, beams, config.noise_w)[0, list(USERS)]
    np.testing.assert_allclose(list(told.values()), 10 * np.log10(snr / snr.min()), atol=1e-6)
    assert tuple(told) == USERS
    assert min(told.values()) == pytest.approx(0, abs=1e-6)
    assert delay.margins_db(0, HOLDERS, USERS) == told
    assert delay.margins_db(0, HOLDERS, (3,)) == {3: pytest.approx(0, abs=1e-6)}


def hear(heard: dict[int, bytes], user: int, data: bytes, last_bit_at: float) -> None:
    heard[user] = data


def test_a_user_loses_its_own_share_and_the_others_nothing_of_it() -> None:
    data, counts = np.random.default_rng(0).bytes(2_000_000), []
    for _ in range(2):
        band, heard = MemoryBand(seed=5), dict[int, bytes]()
        for user in (0, 1):
            band.listen(user, partial(hear, heard, user))
        sent = band.send(0, data, (0, 1), 0.0, {0: 0.3})
        assert heard == {0: data, 1: data}
        assert (sent.missed, band._receivers[1].losses.lost) == ((), 0)
        assert 0.25 < band._receivers[0].losses.lost / (sent.wire_bytes / 1500) < 0.35
        counts.append((sent, band._receivers[0].losses))
        band.close()
    assert counts[0][0].repair_bytes > 0.3 * len(data)


def test_a_live_edge_tells_senders_what_each_user_loses(
    family: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    radio_says: list[dict[int, float]] = []
    ask_radio = Minds.loss

    def much_worse(minds: Minds, *broadcast: object) -> dict[int, float]:
        radio_says.append(ask_radio(minds, *broadcast))  # type: ignore[arg-type]
        return {user: min(0.9, 300 * share) for user, share in radio_says[-1].items()}

    monkeypatch.setattr(Minds, "loss", much_worse)
    config = EmulateConfig(run=small_run(family, slots=1), clients=0, snr_loss=True)
    report = emulate(config, tmp_path, progress=False)
    casts = [line.event for line in read_log(tmp_path / LOG_NAME) if isinstance(line.event, Broadcast)]
    assert report.good
    assert len(radio_says) == len(casts) > 0
    for cast, shares in zip(casts, radio_says, strict=True):
        assert set(shares) == set(cast.users)
        assert max(shares.values()) == pytest.approx(TARGET, rel=0.05)
    assert report.wire["repair_bytes"] > 0
    assert loss_of_margin(0.0) == pytest.approx(TARGET)
