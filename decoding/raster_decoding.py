"""Decoding of masked tokens one by one, in raster order. Functions of arrays and callables."""
from collections.abc import Callable, Iterator

import numpy as np

from decoding.token_decoding import gumbel_noise, log_softmax, sample_tokens
from utilities import own_seed


def nucleus(log_probabilities: np.ndarray, top_p: float, temperature: float = 1.0) -> np.ndarray:
    """Nucleus sampling: log-probabilities float32 [..., K] in which the improbable tokens are -inf.

    The most probable tokens are kept until their probabilities, at this temperature, add up to top_p; at least one is
    kept (Holtzman et al., The curious case of neural text degeneration, arXiv 1904.09751, section 3.1).
    """
    if top_p >= 1 or temperature == 0:
        return log_probabilities
    order = np.argsort(-log_probabilities, axis=-1, kind="stable")
    probabilities = np.exp(log_softmax(np.take_along_axis(log_probabilities, order, axis=-1) / temperature))
    kept = np.cumsum(probabilities, axis=-1) - probabilities < top_p
    kept[..., 0] = True
    inside = np.empty_like(kept)
    np.put_along_axis(inside, order, kept, axis=-1)
    return np.where(inside, log_probabilities, -np.inf)


def raster_steps(tokens: np.ndarray, begin: Callable, mask_token: int, seeds: list, temperature: float = 1.0,
                 top_p: float = 1.0) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Fill masked tokens one by one, row by row from left to right.

    Args:
        tokens: int32 [B, h, w]; positions equal to mask_token are unknown, the others are never changed.
        begin: function (tokens) -> function (step, previous int32 [B]) -> logits float [B, K] of the next unknown token
            in each item of the batch. previous: the tokens drawn in the previous step; any tokens in step 0.
        mask_token: index of the mask token.
        seeds: B seeds; item b of the result depends only on seeds[b] and tokens[b].
        temperature, top_p: of the tokens' distribution; see sample_tokens and nucleus.

    Yields after every step: tokens int32 [B, h, w] so far, the positions decided in this step bool [B, h, w], logits
    float32 [B, K].
    """
    tokens = np.array(tokens, np.int32)
    flat = tokens.reshape(len(tokens), -1)
    unknown = flat == mask_token
    order = np.argsort(~unknown, axis=1, kind="stable")
    next_logits, previous = begin(tokens.copy()), np.zeros(len(tokens), np.int32)
    for step in range(unknown.sum(axis=1).max(initial=0)):
        logits = np.asarray(next_logits(step, previous), np.float32)
        noise = np.stack([gumbel_noise(own_seed(seed, "tokens", step), logits.shape[1:]) for seed in seeds])
        previous, _ = sample_tokens(nucleus(log_softmax(logits), top_p, temperature), noise, temperature)
        rows = np.flatnonzero(unknown.sum(axis=1) > step)
        decided = np.zeros(flat.shape, bool)
        decided[rows, order[rows, step]] = True
        flat[rows, order[rows, step]] = previous[rows]
        yield tokens.copy(), decided.reshape(tokens.shape), logits


def decode_raster(tokens: np.ndarray, begin: Callable, mask_token: int, seeds: list, watch: Callable | None = None,
                  **options: float) -> np.ndarray:
    """The tokens after the last of raster_steps, with the same arguments. watch: as for decode_tokens."""
    for tokens, _, _ in raster_steps(tokens, begin, mask_token, seeds, **options):  # noqa: B020
        if watch:
            watch(tokens, tokens)
    return tokens
