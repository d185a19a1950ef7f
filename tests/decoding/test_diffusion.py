"""Diffusion on arrays: conversions, schedules and samplers, with oracles in place of networks."""
import numpy as np
import pytest

from decoding.diffusion import (
    SCHEDULES,
    ancestral_step,
    clean_from_epsilon,
    clean_from_velocity,
    ddim_step,
    dpm_solver_step,
    epsilon_from_clean,
    rates,
    sample,
    solver_step,
    velocity,
)


@pytest.fixture
def arrays():
    """Random clean array and noise, float64 [2, 4, 4, 3]."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(2, 4, 4, 3)), rng.normal(size=(2, 4, 4, 3))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_conversions_are_inverses_at_every_time(schedule, arrays):
    clean, epsilon = arrays
    for time in np.linspace(0, 1, 21):
        signal, noise = rates(time, schedule)
        assert signal**2 + noise**2 == pytest.approx(1)
        noisy = signal * clean + noise * epsilon
        v = velocity(clean, epsilon, signal, noise)
        assert np.allclose(clean_from_velocity(noisy, v, signal, noise), clean, atol=1e-12)
        assert np.allclose(clean_from_epsilon(noisy, epsilon, signal, noise), clean, atol=1e-10)
        assert np.allclose(epsilon_from_clean(noisy, clean, signal, noise), epsilon, atol=1e-10)


def test_schedules_start_and_end_where_they_say():
    assert SCHEDULES["thesis"] == (0.95, 0.02)
    for schedule, (first, last) in SCHEDULES.items():
        assert rates(0, schedule)[0] == pytest.approx(first)
        assert rates(1, schedule)[0] == pytest.approx(last)
        signals = [rates(time, schedule)[0] for time in np.linspace(0, 1, 50)]
        assert (np.diff(signals) < 0).all()


def test_dpm_solver_without_a_previous_estimate_is_ddim(arrays):
    noisy, clean = arrays
    for now, then in ((0.9, 0.5), (0.3, 0.1)):
        pair = rates(now, "wide"), rates(then, "wide")
        assert np.allclose(dpm_solver_step(noisy, clean, None, None, *pair), ddim_step(noisy, clean, *pair), atol=1e-10)


@pytest.mark.parametrize("solver", ["ddim", "dpm"])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 7, 30])
def test_with_an_oracle_every_step_keeps_the_noise_and_changes_only_its_share(solver, schedule, steps, arrays):
    clean, epsilon = arrays
    seen = []

    def oracle(noisy, time):
        signal, noise = rates(time, schedule)
        seen.append(time)
        assert np.allclose(noisy, signal * clean + noise * epsilon, atol=1e-9)
        return clean_from_epsilon(noisy, epsilon, signal, noise)

    signal, noise = rates(1, schedule)
    result = sample(oracle, signal * clean + noise * epsilon, steps, schedule, solver)
    assert np.allclose(result, clean, atol=1e-9)
    assert seen == pytest.approx([1 - step / steps for step in range(steps)])


@pytest.mark.parametrize("steps", [10, 20])
def test_dpm_solver_is_nearer_to_the_exact_solution_than_ddim(steps):
    """Data are normal with standard deviations 0.2 to 2, for which the best estimate is known."""
    deviation = np.linspace(0.2, 2, 50)
    start = np.random.default_rng(0).normal(size=50)

    def best(noisy, time):
        signal, noise = rates(time, "thesis")
        return signal * deviation**2 / (signal**2 * deviation**2 + noise**2) * noisy

    def exact(time):
        """The noisy array of the exact solution at this time: normal data stay normal, only their width changes."""
        width = [np.hypot(signal * deviation, noise) for signal, noise in (rates(time, "thesis"), rates(1, "thesis"))]
        return start * width[0] / width[1]

    last = 1 / steps  # time of the last noisy array of a sampler
    error = {solver: np.abs(sample(best, start, steps, "thesis", solver) - best(exact(last), last)).max()
             for solver in ("ddim", "dpm")}
    assert error["dpm"] < error["ddim"] / 2


def test_an_ancestral_step_adds_new_noise_and_keeps_its_share():
    rng = np.random.default_rng(0)
    clean, epsilon, fresh = (rng.normal(size=100_000) for _ in range(3))
    now, then = rates(0.6, "wide"), rates(0.4, "wide")
    noisy = now[0] * clean + now[1] * epsilon
    noise = (ancestral_step(noisy, clean, now, then, fresh) - then[0] * clean) / then[1]
    assert noise.std() == pytest.approx(1, rel=0.01)
    assert 0.2 < np.corrcoef(noise, epsilon)[0, 1] < 0.8
    assert np.corrcoef(noise, fresh)[0, 1] ** 2 + np.corrcoef(noise, epsilon)[0, 1] ** 2 == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("solver", ["ddim", "dpm", "ancestral"])
def test_sampling_normal_data_gives_their_spread(solver):
    rng = np.random.default_rng(0)
    noisy, clean, steps = rng.normal(size=20_000), None, 200
    for index in range(steps):
        signal, noise = rates(1 - index / steps, "wide")
        previous, clean = clean, signal * 0.25 / (signal**2 * 0.25 + noise**2) * noisy
        noisy = solver_step(noisy, clean, previous, index, steps, "wide", solver, rng.normal(size=20_000))
    assert clean.std() == pytest.approx(0.5, rel=0.03)


def test_progress_wraps_the_steps():
    wrapped = []

    def progress(steps):
        wrapped.append(len(steps))
        return iter(steps)

    sample(lambda noisy, time: noisy, np.zeros(3), 6, "thesis", progress=progress)
    assert wrapped == [6]
