"""Diffusion on arrays, for any network: noise schedules, v-prediction, samplers.

A noisy array is signal * clean + noise * epsilon with signal**2 + noise**2 = 1 at every time in [0, 1]; time 0 is
nearly clean. Samplers take a function estimate(noisy, time) -> clean; it can insert the known part of the clean array.
"""
import math
from collections.abc import Callable

from networks.backend import Tensor
from utilities import Progress

# (signal rate at time 0, at time 1). The angle whose cosine is the signal rate grows linearly in time.
SCHEDULES = {"thesis": (0.95, 0.02), "wide": (0.9999, 0.005)}

Rates = tuple[float, float]  # of signal and noise


def angle(time: Tensor, schedule: str) -> Tensor:
    """Angle in radians at a time in [0, 1]; works on floats and on arrays of any backend."""
    first, last = (math.acos(rate) for rate in SCHEDULES[schedule])
    return first + (last - first) * time


def rates(time: float, schedule: str) -> Rates:
    """(signal rate, noise rate) as floats for a float time."""
    return math.cos(angle(time, schedule)), math.sin(angle(time, schedule))


def velocity(clean: Tensor, epsilon: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
    """v = signal * epsilon - noise * clean (Salimans & Ho, arXiv 2202.00512, appendix D)."""
    return signal * epsilon - noise * clean


def clean_from_velocity(noisy: Tensor, v: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
    """Clean array from a noisy array and its v."""
    return signal * noisy - noise * v


def clean_from_epsilon(noisy: Tensor, epsilon: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
    """Clean array from a noisy array and its noise."""
    return (noisy - noise * epsilon) / signal


def epsilon_from_clean(noisy: Tensor, clean: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
    """Noise of a noisy array, from its clean part."""
    return (noisy - signal * clean) / noise


def ddim_step(noisy: Tensor, clean: Tensor, now: Rates, then: Rates) -> Tensor:
    """One deterministic step (Song et al., arXiv 2010.02502, eq. 12); now and then are (signal, noise)."""
    return then[0] * clean + then[1] * epsilon_from_clean(noisy, clean, *now)


def ancestral_step(noisy: Tensor, clean: Tensor, now: Rates, then: Rates, fresh: Tensor) -> Tensor:
    """A step that replaces as much of the noise as possible by `fresh`, new noise of unit variance (Ho et al., arXiv
    2006.11239; Song et al., arXiv 2010.02502, eq. 12 and 16 with eta = 1)."""
    drawn = then[1] / now[1] * math.sqrt(1 - (now[0] / then[0]) ** 2)
    kept = math.sqrt(then[1] ** 2 - drawn ** 2)
    return then[0] * clean + kept * epsilon_from_clean(noisy, clean, *now) + drawn * fresh


def dpm_solver_step(noisy: Tensor, clean: Tensor, previous: Tensor, before: Rates, now: Rates, then: Rates) -> Tensor:
    """One step of DPM-Solver++(2M) (Lu et al., arXiv 2211.01095, algorithm 2).

    previous: clean estimate of the step before, None in the first step, which is then of first order (equal to DDIM).
    before: rates of the step before.
    """
    step = _log_snr(then) - _log_snr(now)
    if previous is not None:
        ratio = (_log_snr(now) - _log_snr(before)) / step
        clean = clean + (clean - previous) / (2 * ratio)
    return then[1] / now[1] * noisy - then[0] * math.expm1(-step) * clean


def _log_snr(pair: Rates) -> float:
    return math.log(pair[0] / pair[1])


def solver_step(noisy: Tensor, clean: Tensor, previous: Tensor, index: int, steps: int, schedule: str,
                solver: str = "dpm", drawn: Tensor = None) -> Tensor:
    """The noisy array after step `index` of `steps` steps from time 1 to time 0.

    Args:
        noisy, clean: the array before the step, and the clean array estimated from it.
        previous: clean estimate of the step before, None in the first step.
        solver: "dpm" (DPM-Solver++ 2M), "ddim" or "ancestral".
        drawn: noise for the ancestral solver, of unit variance.
    """
    before, now, then = (rates(1 - (index + after) / steps, schedule) for after in (-1, 0, 1))
    if solver == "ddim":
        return ddim_step(noisy, clean, now, then)
    if solver == "ancestral":
        return ancestral_step(noisy, clean, now, then, drawn)
    return dpm_solver_step(noisy, clean, previous, before, now, then)


def sample(estimate: Callable[[Tensor, float], Tensor], start: Tensor, steps: int, schedule: str, solver: str = "dpm",
           progress: Progress = iter) -> Tensor:
    """Denoise `start` in `steps` steps; returns the last clean estimate.

    Args:
        estimate: function (noisy float32 array, time float) -> clean estimate of the same shape.
        start: noise of unit variance, the noisy array at time 1.
        steps: calls of estimate.
        schedule: name in SCHEDULES.
        solver: see solver_step, "dpm" or "ddim".
        progress: wraps the iterable of steps, e.g. a progress bar.
    """
    noisy, clean = start, None
    for index in progress(range(steps)):
        previous, clean = clean, estimate(noisy, 1 - index / steps)
        if index < steps - 1:
            noisy = solver_step(noisy, clean, previous, index, steps, schedule, solver)
    return clean
