"""Decoding of masked tokens in several steps: schedules, orders, sampling. Functions of arrays and callables.

Chang et al., MaskGIT, arXiv 2202.04200 (schedules: section 3.2, decoding: section 3.3); the Halton order is that of
Besnier et al., Halton-MaskGIT, arXiv 2503.17076.
"""
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utilities import Seed, own_seed

SCHEDULES = ("arccos", "cosine", "linear", "square", "root")
ORDERS = ("halton", "confidence")
DecodingStep = tuple[NDArray[np.int32], NDArray[np.bool], NDArray[np.float32]]  # tokens, decided, logits


def masked_share(progress: float | NDArray[np.float64], schedule: str) -> NDArray[np.float64]:
    """Share of the unknown tokens that is still masked at progress in [0, 1]. It falls from 1 to 0."""
    progress = np.asarray(progress, np.float64)
    return {
        "cosine": lambda: np.cos(np.pi / 2 * progress),
        "arccos": lambda: np.arccos(progress) / (np.pi / 2),
        "linear": lambda: 1 - progress,
        "square": lambda: 1 - progress**2,
        "root": lambda: 1 - np.sqrt(progress),
    }[schedule]()


def masked_after_steps(unknown: int | np.ndarray, steps: int | np.ndarray, schedule: str) -> np.ndarray:
    """Number of tokens that are still masked after each step: int [..., largest of steps].

    At least one token is decided in each step, until none is left. With fewer tokens than steps, nothing is left for
    the last steps.

    unknown: int [...], tokens to decide. steps: int, or int [...].
    """
    unknown, steps = np.broadcast_arrays(unknown, steps)
    masked, rows = unknown, []
    for step in range(1, steps.max(initial=1) + 1):
        wanted = np.floor(unknown * masked_share(np.minimum(1, step / steps), schedule) + 1e-9).astype(np.int64)
        masked = np.maximum(0, np.minimum(masked - 1, np.maximum(wanted, steps - step)))
        rows.append(masked)
    return np.stack(rows, axis=-1)


@cache
def halton_order(height: int, width: int) -> NDArray[np.int32]:
    """Rank, int32 [height, width], of every position in a low-discrepancy order (Halton sequence, bases 2 and 3).

    Consecutive positions are far apart, so the tokens that are sampled in one step hardly depend on each other.
    """
    # scipy.stats.qmc.Halton gives the same order, but takes 0.8 s to import. This takes 2 ms for 16x16 tokens.
    rank = np.full((height, width), -1, np.int32)
    found, index = 0, 0
    while found < height * width:
        row, column = int(_radical_inverse(index, 2) * height), int(_radical_inverse(index, 3) * width)
        if rank[row, column] < 0:
            rank[row, column] = found
            found += 1
        index += 1
    rank.setflags(write=False)
    return rank


def _radical_inverse(index: int, base: int) -> float:
    value, digit = 0.0, 1.0
    while index:
        digit /= base
        index, remainder = divmod(index, base)
        value += digit * remainder
    return value


def gumbel_noise(seed: Seed, shape: Sequence[int]) -> NDArray[np.float32]:
    """Standard Gumbel noise, float32 [*shape]. The same seed gives the same noise with the same backend.

    TensorFlow Probability draws it if the backend is TensorFlow, otherwise NumPy.
    """
    from networks.backend import keras

    state = own_seed(seed)
    if keras.backend.backend() != "tensorflow":
        return np.random.default_rng(state).gumbel(size=shape).astype(np.float32)
    return np.array(_gumbel_graph(tuple(shape))(state.generate_state(2).astype(np.int32)))


@cache
def _gumbel_graph(shape: tuple[int, ...]) -> Callable:
    """Function (seed int32 [2]) -> Gumbel noise float32 [*shape]. A graph makes it three times as fast."""
    import tensorflow as tf
    import tensorflow_probability as tfp

    gumbel = tfp.distributions.Gumbel(np.float32(0), np.float32(1))
    return tf.function(lambda seed: gumbel.sample(shape, seed=seed))


def log_softmax(logits: Any) -> NDArray[np.float32]:
    """Log-probabilities over the last axis, float32."""
    shifted = np.asarray(logits, np.float32)
    shifted = shifted - shifted.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def sample_tokens(log_probabilities: NDArray[np.float32], noise: NDArray[np.float32],
                  temperature: float = 1.0) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Draw one token for every position by the Gumbel-max trick.

    Args:
        log_probabilities: float32 [..., K].
        noise: standard Gumbel noise, float32 [..., K].
        temperature: 0 takes the most probable token, 1 samples the distribution without change.

    Returns: tokens int32 [...] and their log-probabilities float32 [...].
    """
    tokens = np.argmax(log_probabilities + temperature * noise, axis=-1).astype(np.int32)
    chosen = np.take_along_axis(log_probabilities, tokens[..., None], axis=-1)[..., 0]
    return tokens, chosen


def classifier_free_guidance(conditional: Callable, unconditional: Callable, weight: float) -> Callable:
    """Classifier-free guidance (arXiv 2207.12598): a function that returns log-probabilities up to a constant,
    (1 + weight) * conditional - weight * unconditional.

    Tokens that the condition makes more probable gain, tokens that are only frequent lose.

    Args:
        conditional, unconditional: functions of the same arrays -> logits [..., K].
        weight: 0 returns `conditional` unchanged.
    """
    if weight == 0:
        return conditional
    return lambda *inputs: ((1 + weight) * log_softmax(conditional(*inputs))
                            - weight * log_softmax(unconditional(*inputs)))


def decoding_steps(tokens: np.ndarray, network: Callable[..., Any], mask_token: int,
                   seeds: Sequence[Seed], steps: int | np.ndarray = 12, schedule: str = "arccos", order: str = "halton",
                   temperature: float = 1.0, order_temperature: float = 4.0) -> Iterator[DecodingStep]:
    """Fill masked tokens step by step.

    Args:
        tokens: int32 [B, h, w]; positions equal to mask_token are unknown, the others are never changed.
        network: function int32 [B, h, w] -> logits float [B, h, w, K].
        mask_token: index of the mask token.
        seeds: B seeds; item b of the result depends only on seeds[b] and tokens[b].
        steps: largest number of steps, each with one call of the network: an int, or one int for each item.
        schedule: one of SCHEDULES.
        order: "halton" decides the positions in Halton order, shifted at random; "confidence" decides the most probable
            tokens first, with Gumbel noise whose scale falls from order_temperature to 0 (arXiv 2202.04200, section
            3.3).
        temperature: of the tokens' distribution.

    Yields after every step: tokens int32 [B, h, w] so far, the positions decided in this step bool [B, h, w], logits
    float32 [B, h, w, K].
    """
    tokens = np.array(tokens, np.int32)
    batch, height, width = tokens.shape
    unknown = tokens == mask_token
    masked_after = masked_after_steps(unknown.sum(axis=(1, 2)), steps, schedule)
    ranks = np.stack([_rolled(halton_order(height, width), seed) for seed in seeds])
    for step in range(masked_after.shape[1]):
        if not unknown.any():
            return
        logits = np.asarray(network(tokens), np.float32)
        log_probabilities = log_softmax(logits)
        noise = np.stack([gumbel_noise(own_seed(seed, "tokens", step), logits.shape[1:]) for seed in seeds])
        sampled, chosen = sample_tokens(log_probabilities, noise, temperature)
        if order == "halton":
            priority = -ranks.astype(np.float32)
        else:
            order_noise = np.stack([gumbel_noise(own_seed(seed, "order", step), (height, width)) for seed in seeds])
            left = np.maximum(0, 1 - (step + 1) / np.broadcast_to(steps, batch))[:, None, None]
            priority = chosen + order_temperature * left * order_noise
        decided = first_positions(priority, unknown, unknown.sum(axis=(1, 2)) - masked_after[:, step])
        tokens = np.where(decided, sampled, tokens)
        unknown = unknown & ~decided
        yield tokens, decided, logits


def decode_tokens(tokens: np.ndarray, network: Callable[..., Any], mask_token: int, seeds: Sequence[Seed],
                  stop_after: int | None = None, watch: Callable[..., None] | None = None,
                  **options: Any) -> NDArray[np.int32]:
    """The tokens after the last of decoding_steps, with the same arguments and two more.

    stop_after: step after which the most probable tokens fill the rest, or None.
    watch: None, or function (tokens so far, the same with the most probable tokens at undecided positions), called in
        every step.
    """
    for step, (tokens, _, logits) in enumerate(  # noqa: B020
            decoding_steps(tokens, network, mask_token, seeds, **options), 1):
        if watch or step == stop_after:
            guess = np.where(tokens == mask_token, logits.argmax(axis=-1), tokens).astype(np.int32)
        if watch:
            watch(tokens, guess)
        if step == stop_after:
            return guess
    return tokens


def first_positions(priority: np.ndarray, allowed: NDArray[np.bool],
                    counts: Sequence[int] | np.ndarray) -> NDArray[np.bool]:
    """Bool [B, h, w]: the counts[b] allowed positions with the highest priority, for each b."""
    batch = len(priority)
    flat = np.where(allowed, priority, -np.inf).reshape(batch, -1)
    order = np.argsort(-flat, axis=1, kind="stable")
    place = np.empty_like(order)
    np.put_along_axis(place, order, np.arange(flat.shape[1])[None], axis=1)
    return (place < np.asarray(counts)[:, None]).reshape(priority.shape) & allowed


def _rolled(rank: NDArray[np.int32], seed: Seed) -> NDArray[np.int32]:
    rows, columns = np.random.default_rng(own_seed(seed, "roll")).integers(rank.shape)
    return np.roll(rank, (rows, columns), axis=(0, 1))
