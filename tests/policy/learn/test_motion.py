import numpy as np

from policy.learn.motion import Motion, PlaceDraws, likely_cells, place_draws


def _draws(normals: np.ndarray, ahead: int = 1) -> PlaceDraws:
    slots = np.full(len(normals), ahead)
    return PlaceDraws(normals=normals, uniforms=np.zeros_like(normals), ahead=slots)


def _walk(keep: float, slots: int = 40) -> np.ndarray:
    rng = np.random.default_rng(0)
    move = rng.normal(size=(30, 2)) * 10
    places = [rng.uniform(4000, 6000, (30, 2))]
    for _ in range(slots):
        move = keep * move + np.sqrt(1 - keep**2) * rng.normal(size=(30, 2)) * 10
        places.append(places[-1] + move)
    return np.array(places)


def test_memory_of_the_motion_is_found() -> None:
    found = []
    for keep in (0.5, 0.95):
        motion = Motion(10_000.0)
        for places in _walk(keep):
            motion.observe(places)
        found.append(motion.keep)

    assert found[0] + 0.1 < found[1]
    assert found[1] > 0.85


def test_places_stay_inside_and_go_on() -> None:
    motion = Motion(100.0)
    draws = np.random.default_rng(1)
    anywhere = motion.places(place_draws(draws, 5, 2))
    motion.observe(np.array([[10.0, 10.0], [95.0, 50.0]]))
    motion.observe(np.array([[20.0, 10.0], [99.0, 50.0]]))
    still = motion.places(_draws(np.zeros((1, 2, 2))))[0]
    noisy = motion.places(_draws(draws.standard_normal((500, 2, 2))))

    assert anywhere.min() >= 0
    assert anywhere.max() <= 100
    np.testing.assert_allclose(still, [[28.0, 10.0], [97.8, 50.0]])
    assert noisy.min() >= 0
    assert noisy.max() <= 100


def test_far_places_spread_as_the_walk_does() -> None:
    walk, motion = _walk(0.8), Motion(10_000.0)
    for places in walk:
        motion.observe(places)
    rng, ahead = np.random.default_rng(2), 4
    normals = rng.standard_normal((4000, 30, 2))
    far = motion.places(_draws(normals, ahead))
    move = walk[-1] - walk[-2]
    reach = sum(motion.keep**i for i in range(1, ahead + 1))
    noise = [sum(motion.keep**j for j in range(i)) for i in range(1, ahead + 1)]

    np.testing.assert_allclose(far.mean(axis=0), walk[-1] + reach * move, atol=2.5)
    np.testing.assert_allclose(far.std(axis=0).mean(), motion.spread_m * np.linalg.norm(noise), rtol=0.02)


def test_a_user_on_its_way_is_expected_in_the_next_cell() -> None:
    nodes = np.array([[0.0, 0.0], [100.0, 0.0]])
    now, before = np.array([[45.0, 0.0], [45.0, 0.0]]), np.array([[35.0, 0.0], [45.0, 0.0]])

    assert likely_cells(nodes, now, before).tolist() == [1, 0]


def test_later_slots_are_as_far_ahead_as_their_weights_say() -> None:
    draws = place_draws(np.random.default_rng(0), 4000, 1, later=0.8)
    share = np.bincount(draws.ahead)[2:6] / 4000

    assert draws.ahead.min() == 2
    np.testing.assert_allclose(share, 0.2 * 0.8 ** np.arange(4), atol=1e-3)
    np.testing.assert_allclose(draws.normals.mean(axis=0), 0.0, atol=1e-12)
