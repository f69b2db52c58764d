"""Rates by the NR tables: laws, hand-worked values, and link curves of another house."""

import json
from importlib import resources

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radio import BadInputError, NrLink, RadioConfig, num_resource_blocks, rate_bit_s, rate_bit_s_hz

LINKS = [NrLink(table=table, bler_target=target) for table in (1, 2) for target in (0.1, 1e-3)]


@pytest.mark.parametrize("link", LINKS)
@given(low=st.floats(-30.0, 60.0), more=st.floats(0.0, 30.0))
def test_more_snr_is_never_slower_and_shannon_is_never_passed(link: NrLink, low: float, more: float) -> None:
    a, b = 10.0 ** (low / 10.0), 10.0 ** ((low + more) / 10.0)

    assert link.rate_bit_s_hz(a) <= link.rate_bit_s_hz(b)
    assert link.rate_bit_s_hz(a) <= rate_bit_s_hz(a)
    assert link.rate_bit_s(a, 100e6) <= 100e6 * rate_bit_s_hz(a)


@pytest.mark.parametrize("link", LINKS)
def test_every_mcs_starts_at_its_threshold(link: NrLink) -> None:
    at = link.rate_bit_s_hz(link.thresholds * (1.0 + 1e-9))
    below = link.rate_bit_s_hz(link.thresholds * (1.0 - 1e-9))

    assert (at >= link.efficiencies * (1.0 - link.bler_target) - 1e-12).all()
    assert (below <= at).all()
    assert link.rate_bit_s_hz(0.0) == 0.0
    assert link.rate_bit_s_hz(link.thresholds.min() * 0.999) == 0.0
    assert link.rate_bit_s_hz(1e9) == pytest.approx(link.efficiencies.max() * (1.0 - link.bler_target))
    assert link.rate_bit_s_hz(np.inf) == np.inf


def test_the_tables_are_those_of_ts_38214() -> None:
    # Spectral efficiencies as printed there, four digits.
    first = dict(zip(range(29), NrLink(table=1).efficiencies, strict=True))
    second = dict(zip(range(28), NrLink(table=2).efficiencies, strict=True))

    printed = {0: 0.2344, 9: 1.3262, 10: 1.3281, 16: 2.5703, 17: 2.5664, 28: 5.5547}
    assert {i: round(first[i], 4) for i in printed} == pytest.approx(printed, abs=1e-4)
    printed = {0: 0.2344, 4: 1.1758, 5: 1.4766, 11: 2.7305, 20: 5.3320, 26: 7.1602, 27: 7.4063}
    assert {i: round(second[i], 4) for i in printed} == pytest.approx(printed, abs=1e-4)


def test_the_peak_rate_is_the_formula_of_ts_38306() -> None:
    # One layer, 100 MHz, 30 kHz: 8 * 948 / 1024 * 273 * 12 / (1 ms / 28) * (1 - 0.14) = 584.3 Mbit/s.
    link = NrLink(bler_target=1e-9)

    assert link.rate_bit_s(1e12, 100e6) == pytest.approx(584.3e6, rel=1e-3)


def test_stricter_targets_need_more_snr() -> None:
    loose, usual, strict = (NrLink(bler_target=t).thresholds for t in (0.3, 0.1, 1e-5))

    assert (loose < usual).all()
    assert (usual < strict).all()
    assert (10.0 * np.log10(strict / usual)).max() < 1.0


def test_channels_outside_the_table_are_refused() -> None:
    assert num_resource_blocks(100e6) == 273
    assert num_resource_blocks(20e6, 15e3) == 106
    for bandwidth, spacing in ((37e6, 30e3), (100e6, 15e3), (100e6, 45e3)):
        with pytest.raises(BadInputError, match="bandwidth_hz"):
            num_resource_blocks(bandwidth, spacing)
    for change in ({"table": 3}, {"bler_target": 0.0}, {"overhead": 1.0}, {"subcarrier_hz": 1e3}):
        with pytest.raises(ValueError, match=next(iter(change))):
            NrLink(**change)


def test_a_config_says_which_rate_counts() -> None:
    snr = np.array([0.0, 1.0, 30.0, np.inf])
    shannon = rate_bit_s(RadioConfig(), snr)
    tables = [rate_bit_s(RadioConfig(link=link), snr) for link in ("nr-64qam", "nr-256qam")]

    assert shannon[1] == 100e6
    for rates in tables:
        assert (rates[:3] <= shannon[:3]).all()
        assert rates[0] == 0.0
        assert rates[2] > 0.4 * shannon[2]
        assert rates[3] == np.inf


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("table", [1, 2])
def test_thresholds_lie_where_sionna_s_awgn_curves_fall(table: int) -> None:
    pytest.importorskip("sionna", reason="sionna-no-rt is not installed: pip install sionna-no-rt")
    path = resources.files("sionna.sys") / "bler_tables" / f"PDSCH_table{table}.json"
    curves = json.loads(path.read_text())["category"]["1"]["index"][str(table)]["MCS"]
    thresholds = 10.0 * np.log10(NrLink(table=table).thresholds)

    for mcs, curve in curves.items():
        snr, lost = np.array(curve["SNR_db"]), np.array(curve["CBS"]["2000"]["BLER"])
        if lost[-1] < 0.1:
            last = int(np.flatnonzero(lost >= 0.1)[-1])
            assert snr[last] - 0.5 < thresholds[int(mcs)] < snr[last + 1] + 0.5, mcs
