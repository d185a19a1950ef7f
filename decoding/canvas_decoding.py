"""Fills a canvas of tokens that is larger than the window of the network, and decodes it. Functions of arrays and
callables."""
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from decoding.token_decoding import (
    decode_tokens,
    first_positions,
    gumbel_noise,
    halton_order,
    log_softmax,
    masked_after_steps,
    sample_tokens,
)
from decoding.windows import (
    blend,
    columns_from,
    grid_windows,
    hole_windows,
    in_batches,
    independent_batches,
    ring_windows,
)
from utilities import Progress, Seed, own_seed

REPAINTED = 0.5  # share of the new tokens that each round of `repaint` hides
DECODER_TILE, DECODER_MARGIN = 48, 10  # tokens; the margin is wider than the receptive field of the default decoder


def fill_outwards(canvases: np.ndarray, conditions: Sequence[np.ndarray], network: Callable[..., Any], mask_token: int,
                  known: Sequence[int], window: int, step: int, seeds: Sequence[Seed], batch_size: int,
                  progress: Progress = iter, steps: int = 12, watch: Callable[..., None] | None = None,
                  wrap: bool = False, **options: Any) -> NDArray[np.int32]:
    """Fill ring by ring, in the order of the thesis: each window is decoded after the windows before it.

    Args:
        canvases: int32 [A, H, W], one for each attempt. All have the same known tokens.
        conditions: arrays [A, H, W], further inputs of the network at each position.
        network: function (tokens int32, *conditions), each [B, window, window] -> logits [B, window, window, K].
        mask_token: index of the mask token.
        known: (top, bottom, left, right) of the known rectangle.
        window, step: side of a window and depth of a ring, in tokens.
        seeds: one for each attempt.
        batch_size: windows in one call of the network. It does not change the result.
        progress: wraps the list of batches, e.g. a progress bar.
        steps: decoding steps for half a window. For other numbers of unknown tokens, the number of steps is in
            proportion.
        watch: None, or a function that is called in every step: (canvases so far, the same canvases with the most
            probable tokens at the undecided positions of the windows).
        wrap: whether the left and right ends of the canvas meet.
        options: of decode_tokens (schedule, order, temperature, order_temperature).

    Returns: int32 [A, H, W] without mask tokens.
    """
    canvases = np.array(canvases, np.int32)
    _, height, width = canvases.shape
    windows = ring_windows(known, height, width, window, step, wrap)
    number = {place: index for index, place in enumerate(windows)}
    batches = [part for places in independent_batches(windows, window, width if wrap else None) for part in in_batches(
        [(attempt, place) for place in places for attempt in range(len(canvases))], batch_size)]
    for batch in progress(batches):
        tokens, *inputs = (np.stack([columns_from(grids[attempt, row:row + window], column, window)
                                     for attempt, (row, column) in batch]) for grids in (canvases, *conditions))
        unknown = (tokens == mask_token).sum(axis=(1, 2))
        filled = decode_tokens(tokens, lambda grid, inputs=inputs: network(grid, *inputs), mask_token,
                               [own_seed(seeds[attempt], "window", number[place]) for attempt, place in batch],
                               steps=steps_for(unknown, steps, window**2 // 2), watch=watched(watch, canvases, batch),
                               **options)
        canvases = placed(canvases, batch, filled)
    return canvases


def fill_hole(canvases: np.ndarray, conditions: Sequence[np.ndarray], fill: Callable[..., np.ndarray], mask_token: int,
              window: int, step: int, seeds: Sequence[Seed], progress: Progress = iter,
              watch: Callable[..., None] | None = None) -> NDArray[np.int32]:
    """Fill the unknown tokens window by window, from the border of the hole inwards.

    Args:
        canvases: int32 [A, H, W], one for each attempt. All have the same unknown positions.
        fill: function (windows int32 [A, window, window], their conditions, seeds, watch) -> the filled windows;
            watch: as for decode_tokens.
        The others are as for fill_outwards.

    Returns: int32 [A, H, W] without mask tokens.
    """
    canvases = np.array(canvases, np.int32)
    for number, (row, column) in enumerate(progress(hole_windows(canvases[0] == mask_token, window, step))):
        windows, *inputs = (grids[:, row:row + window, column:column + window] for grids in (canvases, *conditions))
        if (windows == mask_token).any():
            batch = [(attempt, (row, column)) for attempt in range(len(canvases))]
            filled = fill(windows, inputs, [own_seed(seed, "window", number) for seed in seeds],
                          watched(watch, canvases, batch))
            canvases = placed(canvases, batch, filled)
    return canvases


def watched(watch: Callable[..., None] | None, canvases: np.ndarray,
            batch: Sequence[tuple]) -> Callable[..., None] | None:
    """A function for decode_tokens that places the windows on the canvases and calls `watch` with these, or None."""
    return watch and (lambda *grids: watch(*(placed(canvases, batch, windows) for windows in grids)))


def placed(canvases: np.ndarray, batch: Sequence[tuple], windows: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """Canvases int32 [A, H, W] with windows int32 [B, h, w] at B positions: (attempt, (top, left)) each. A window that
    reaches over the right end continues at the left end."""
    result = canvases.copy()
    for (attempt, (row, column)), window in zip(batch, windows, strict=True):
        columns = np.arange(column, column + window.shape[1]) % canvases.shape[2]
        result[attempt][row:row + len(window), columns] = window
    return result


def steps_for(unknown: np.ndarray, steps: int, reference: int) -> np.ndarray:
    """Decoding steps for so many unknown tokens, int [B] -> int [B], in proportion: `reference` tokens take `steps`.

    With steps = 1, all tokens are decided in one step.
    """
    return np.ones_like(unknown) if steps == 1 else np.maximum(1, -(-steps * unknown // reference))


def fill_jointly(canvas: np.ndarray, conditions: Sequence[np.ndarray], network: Callable[..., Any], mask_token: int,
                 window: int, seed: Seed, batch_size: int, steps: int, schedule: str = "arccos",
                 temperature: float = 1.0, progress: Progress = iter,
                 watch: Callable[..., None] | None = None, wrap: bool = False) -> NDArray[np.int32]:
    """Fill the whole canvas at once: each step averages the log-probabilities of all overlapping windows.

    This is MultiDiffusion (arXiv 2302.08113) for tokens. Positions are decided in one Halton order over the canvas.
    Positions near the known tokens come earlier, so that each position is decided after its surroundings.

    Args:
        canvas: int32 [H, W].
        conditions: arrays [H, W].
        watch: None, or function (canvas so far, the same canvas with the most probable tokens at undecided positions).
        wrap: whether the left and right ends of the canvas meet.
        The others are as for fill_outwards and decode_tokens.

    Returns: int32 [H, W] without mask tokens.
    """
    canvas = np.array(canvas, np.int32)
    unknown = canvas == mask_token
    if not unknown.any():
        return canvas
    rank = halton_order(*canvas.shape) / canvas.size
    nothing_known = unknown.all()
    copies = np.pad(np.uint8(unknown), ((0, 0), (canvas.shape[1] * wrap,) * 2), mode="wrap")
    distance = np.zeros(copies.shape) if nothing_known else cv2.distanceTransform(copies, cv2.DIST_L2, 5)
    distance = columns_from(distance, canvas.shape[1] * wrap, canvas.shape[1])
    priority = -(rank + distance / max(distance.max(), 1))[None]
    masked_after = masked_after_steps(unknown.sum(), steps, schedule)
    windows = grid_windows(canvas.shape[0], canvas.shape[1], (window, window), window // 2, wrap)
    for step in progress(range(steps)):
        if not unknown.any():
            break
        needed = [(row, column) for row, column in windows
                  if columns_from(unknown[row:row + window], column, window).any()]

        def predicted(needed: list[tuple[int, int]] = needed) -> Iterator[tuple[tuple[int, int], NDArray[np.float32]]]:
            for batch in in_batches(needed, batch_size):
                inputs = (np.stack([columns_from(grid[row:row + window], column, window) for row, column in batch])
                          for grid in (canvas, *conditions))
                yield from zip(batch, log_softmax(network(*inputs)), strict=True)

        log_probabilities = blend((*canvas.shape, mask_token), predicted())[unknown]
        noise = gumbel_noise(own_seed(seed, "tokens", step), log_probabilities.shape)
        sampled, _ = sample_tokens(log_probabilities, noise, temperature)
        decided = first_positions(priority, unknown[None], [unknown.sum() - masked_after[step]])[0]
        canvas[decided] = sampled[decided[unknown]]
        if watch:
            guess = canvas.copy()
            guess[unknown & ~decided] = log_probabilities.argmax(axis=-1)[~decided[unknown]]
            watch(canvas.copy(), guess)
        unknown &= ~decided
    return canvas


def repaint(canvas: np.ndarray, new: NDArray[np.bool], fill: Callable[[NDArray[np.int32], Seed], NDArray[np.int32]],
            mask_token: int, rounds: int, seed: Seed, progress: Progress = iter) -> NDArray[np.int32]:
    """Hide a random half of the new tokens and paint them again, in several rounds. Returns int32 [H, W].

    Tokens that were decided in the same step do not know each other, and are never changed afterwards. In these rounds
    each new token is decided again, with new tokens on all sides: Gibbs sampling in blocks. Other ways to hide decided
    tokens: Mask-Predict, arXiv 1904.09324, and ReMDM, arXiv 2503.00307.

    Args:
        canvas: int32 [H, W] without mask tokens.
        new: bool [H, W], the tokens that may change.
        fill: function (canvas with mask tokens, seed) -> canvas without mask tokens.
    """
    for number in progress(range(rounds)):
        hidden = new & (np.random.default_rng(own_seed(seed, "hidden", number)).random(canvas.shape) < REPAINTED)
        canvas = fill(np.where(hidden, mask_token, canvas).astype(np.int32), own_seed(seed, "repaint", number))
    return canvas


def decode_canvas(tokens: np.ndarray, decode: Callable[[np.ndarray], Any], downscale: int,
                  progress: Progress = iter, wrap: bool = False, shrink: int = 1) -> NDArray[np.float32]:
    """Tokens int32 [H, W] -> picture float32 [H * downscale / shrink, W * downscale / shrink, 3] in [0, 1], tile by
    tile.

    This is for decoders with a small receptive field: each tile is decoded with a margin, which is cut off afterwards.
    So the result is that of decoding the whole canvas. wrap: whether its left and right ends meet. shrink: divides
    downscale; each pixel is the mean of shrink x shrink decoded pixels.
    """
    if wrap:
        wider = np.pad(tokens, ((0, 0), (DECODER_MARGIN, DECODER_MARGIN)), mode="wrap")
        cut = DECODER_MARGIN * downscale // shrink
        return decode_canvas(wider, decode, downscale, progress, shrink=shrink)[:, cut:-cut]
    height, width = tokens.shape
    unit = downscale // shrink
    picture = np.empty((height * unit, width * unit, 3), np.float32)
    tiles = [(row, column) for row in range(0, height, DECODER_TILE) for column in range(0, width, DECODER_TILE)]
    for row, column in progress(tiles):
        top, left = max(0, row - DECODER_MARGIN), max(0, column - DECODER_MARGIN)
        bottom, right = min(height, row + DECODER_TILE), min(width, column + DECODER_TILE)
        part = np.asarray(decode(tokens[None, top:bottom + DECODER_MARGIN, left:right + DECODER_MARGIN]))[0]
        part = part[(row - top) * downscale:(bottom - top) * downscale,
                    (column - left) * downscale:(right - left) * downscale]
        picture[row * unit:bottom * unit, column * unit:right * unit] = cv2.resize(
            part, None, fx=1 / shrink, fy=1 / shrink, interpolation=cv2.INTER_AREA)
    return picture


def decode_canvas_blended(tokens: np.ndarray, decode: Callable[[np.ndarray], Any], downscale: int, window: int,
                          samples: float, progress: Progress = iter) -> NDArray[np.floating]:
    """As decode_canvas, for decoders whose receptive field is the whole window: overlapping windows are blended with
    weights that fall towards their borders.

    samples: overlap; there are this many times more windows in each direction than without overlap.
    """
    height, width = tokens.shape
    places = grid_windows(height, width, (window, window), max(1, round(window / samples)))
    tiles = (((row * downscale, column * downscale),
              np.asarray(decode(tokens[None, row:row + window, column:column + window]))[0])
             for row, column in progress(places))
    return blend((height * downscale, width * downscale, 3), tiles)
