import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.config import RadioProxyConfig
from policy.world.cheap_radio import ProxyDelay, link_snr


@given(seed=st.integers(0, 9999), coherent=st.booleans(), share=st.sampled_from([0.02, 0.5, 1.0]))
def test_rate_is_that_of_the_slowest_user(seed: int, coherent: bool, share: float) -> None:
    rng = np.random.default_rng(seed)
    radio = ProxyDelay(snr=rng.exponential(size=(1, 9, 3)), bandwidth_hz=2.0, coherent=coherent)
    holders, users = rng.random((5, 3)) < 0.5, rng.random((5, 9)) < share
    rates = radio.rate_bit_s(0, holders, users)
    for row in range(5):
        single = [
            np.sqrt(radio.snr[0, k][holders[row]]).sum() ** 2
            if coherent
            else radio.snr[0, k][holders[row]].sum()
            for k in np.flatnonzero(users[row])
        ]
        want = 2.0 * np.log2(1 + min(single)) if single else np.inf
        assert rates[row] == pytest.approx(want)


def test_coherent_is_faster_and_the_reference_distance_holds() -> None:
    config = RadioProxyConfig(snr_db=10.0, distance_m=100.0, path_loss_exponent=2.0, min_distance_m=5.0)
    snr = link_snr(np.zeros((1, 2)), np.array([[100.0, 0.0], [200.0, 0.0], [1.0, 0.0]]), config)

    assert snr[:, 0] == pytest.approx([10.0, 2.5, 10 * 20.0**2])
