import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from policy.learn.request_statistics import NUM_FEATURES, RequestStatistics, overlap_matrix
from policy.world.synthetic import findings_catalog

FAMILIES = np.array([0, 0, 1, 1, 2])
OVERLAP = np.where(FAMILIES[:, None] == FAMILIES, 0.5, 0.0) + 0.5 * np.eye(5)


def _watched(
    requests: np.ndarray, cells: np.ndarray, families: np.ndarray, overlap: np.ndarray
) -> RequestStatistics:
    statistics = RequestStatistics((1, requests.shape[1]), families, overlap, 2)
    for asked, places in zip(requests, cells, strict=True):
        statistics.observe(asked[None], places[None])
    return statistics


@given(seed=st.integers(0, 2**32 - 1))
def test_renumbering_users_and_models_renumbers_the_features(seed: int) -> None:
    rng = np.random.default_rng(seed)
    requests, cells = rng.integers(-1, 5, size=(6, 4)), rng.integers(0, 2, size=(6, 4))
    models, users = rng.permutation(5), rng.permutation(4)
    new_name = np.append(np.argsort(models), -1)
    renamed = new_name[requests][:, users]

    base, pair, ask = _watched(requests, cells, FAMILIES, OVERLAP).features(cells[:1])
    other = _watched(renamed, cells[:, users], FAMILIES[models], OVERLAP[np.ix_(models, models)])
    base2, pair2, ask2 = other.features(cells[:1, users])

    np.testing.assert_allclose(base2[:, 0], base[:, 0][:, users][:, :, models], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(pair2[0], pair[0][users][:, models], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ask2[0], ask[0][users], rtol=1e-5)


@given(seed=st.integers(0, 2**32 - 1))
def test_the_mixture_is_a_distribution_and_features_are_finite(seed: int) -> None:
    rng = np.random.default_rng(seed)
    requests, cells = rng.integers(-1, 5, size=(8, 3)), rng.integers(0, 2, size=(8, 3))
    statistics = _watched(requests, cells, FAMILIES, OVERLAP)
    base, pair, ask = statistics.features(cells[:1])

    np.testing.assert_allclose(statistics.mixture().whole.sum(axis=-1), 1.0)
    assert pair.shape == (1, 3, 5, NUM_FEATURES)
    assert all(np.isfinite(x).all() for x in (base, pair, ask))


def test_loyal_users_are_found_loyal_and_fickle_ones_fickle() -> None:
    rng = np.random.default_rng(3)
    loyal = 2 * rng.integers(0, 2, size=(1, 20)) + rng.integers(0, 2, size=(40, 20))
    fickle = rng.integers(0, 5, size=(40, 20))
    cells = np.zeros((40, 20), dtype=np.int64)

    assert _watched(loyal, cells, FAMILIES, OVERLAP).stay > 0.75
    assert _watched(fickle, cells, FAMILIES, OVERLAP).stay < 0.35


def test_later_requests_leave_the_family_more_often() -> None:
    rng = np.random.default_rng(3)
    loyal = 2 * rng.integers(0, 2, size=(1, 20)) + rng.integers(0, 2, size=(40, 20))
    statistics = _watched(loyal, np.zeros((40, 20), dtype=np.int64), FAMILIES, OVERLAP)
    kin = FAMILIES[loyal[-1]][:, None] == FAMILIES
    soon, later = (
        (chance[0] * kin).sum(axis=-1) for chance in (statistics.mixture().plain, statistics.later())
    )

    np.testing.assert_allclose(statistics.later().sum(axis=-1), 1.0)
    assert (later < soon).all()


def test_the_forecaster_that_fits_is_trusted() -> None:
    rng = np.random.default_rng(4)
    loyal = 2 * rng.integers(0, 2, size=(1, 20)) + rng.integers(0, 2, size=(40, 20))
    of_the_cell = np.tile(np.arange(20) % 2, (40, 1))
    anything, cells = rng.integers(0, 5, size=(40, 20)), np.zeros((40, 20), dtype=np.int64)
    mixed, by_cell, blind = (
        _watched(asked, where, FAMILIES, OVERLAP).trust[0]
        for asked, where in ((loyal, cells), (3 * of_the_cell, of_the_cell), (anything, cells))
    )

    np.testing.assert_allclose([mixed.sum(), by_cell.sum(), blind.sum()], 1.0)
    assert mixed[0] > 0.6
    assert by_cell[3] + by_cell[4] > 0.9  # the cell's counts or the user's own
    assert blind[4] < blind[5]  # counts of a user's own are judged before they are taken


def test_a_model_never_asked_twice_in_a_row_becomes_unlikely() -> None:
    requests = np.arange(42)[:, None] % 5 * np.ones((1, 6), dtype=np.int64)
    statistics = _watched(requests, np.zeros((42, 6), dtype=np.int64), FAMILIES, OVERLAP)

    assert statistics.repeat[0, 0] < 0.1
    assert statistics.mixture().whole[0, :, requests[-1, 0]].max() < 0.1


def test_overlap_is_symmetric_and_one_on_the_diagonal() -> None:
    overlap = overlap_matrix(findings_catalog())

    np.testing.assert_allclose(overlap, overlap.T)
    np.testing.assert_allclose(np.diag(overlap), 1.0)
    assert overlap[0, 1] > 0
    assert overlap[0, 4] == 0
