"""Windows that are cut from the tokens of crops, to train transformers on."""
from collections.abc import Iterator
from itertools import count

import numpy as np
from numpy.typing import NDArray

from decoding.guides import guide_tokens
from utilities import Seed, own_seed

DROPPED = 0.2  # share of training windows without context, and share of those without class
COARSE_DROPPED = 0.5  # share of training windows without coarse tokens
COARSE_WRONG = 0.2  # largest share of wrong coarse tokens


def with_wrong_tokens(grids: NDArray[np.integer], rng: np.random.Generator) -> NDArray[np.integer]:
    """Replace a share of the tokens of each grid int [N, h, w] by other tokens of the same grid.

    The share is drawn between 0 and COARSE_WRONG. Generated coarse tokens contain errors, and so the network learns not
    to rely on them completely (conditioning augmentation: Ho et al., Cascaded diffusion models, arXiv 2106.15282,
    section 4).
    """
    others = rng.permuted(grids.reshape(len(grids), -1), axis=1).reshape(grids.shape)
    return np.where(rng.random(grids.shape) < COARSE_WRONG * rng.random((len(grids), 1, 1)), others, grids)


def outside_tokens(grid: NDArray[np.integer], row: int, column: int, window: int, context: int, mask_token: int,
                   rng: np.random.Generator) -> NDArray[np.integer]:
    """Draw `context` tokens of a grid int [h, w] outside its window at (row, column): int [context]. They are
    mask_token if the window covers the whole grid."""
    outside = np.ones(grid.shape, bool)
    outside[row:row + window, column:column + window] = False
    return rng.choice(grid[outside], context) if outside.any() else np.full(context, mask_token)


def token_windows(tokens: NDArray[np.integer], coarse: NDArray[np.integer], classes: NDArray[np.integer], window: int,
                  batch_size: int, seed: Seed, start: int, context: int = 0,
                  mask_token: int = -1) -> Iterator[tuple[NDArray[np.int32], ...]]:
    """Yield batches of random windows without end, from image number `start` on.

    Each is (windows int32 [B, window, window], context int32 [B, context], classes int32 [B], guides int32
    [B, window, window]), where B is batch_size. The context are tokens of the same picture outside the window. The
    guides are the guide_tokens of the window. The context is mask_token in a share DROPPED of the windows, the class is
    -1 in another share DROPPED, and the guides are those of mask_token in a share COARSE_DROPPED.

    tokens: grids int [N, h, w]. coarse: coarse tokens int [N, h / 2, w / 2]. classes: int [N].
    """
    _, height, width = tokens.shape
    for image in count(start, batch_size):
        rng = np.random.default_rng(own_seed(seed, "windows", image))
        rows = rng.integers(0, height - window + 1, batch_size)
        columns = rng.integers(0, width - window + 1, batch_size)
        grids = rng.integers(0, len(tokens), batch_size)
        places = list(zip(grids, rows, columns, strict=True))
        windows = [tokens[grid, row:row + window, column:column + window] for grid, row, column in places]
        contexts = np.stack([outside_tokens(tokens[grid], row, column, window, context, mask_token, rng)
                             for grid, row, column in places]).astype(np.int32)
        dropped = rng.random((2, batch_size)) < DROPPED
        contexts[dropped[0]] = mask_token
        inexact = with_wrong_tokens(coarse[grids], rng)
        inexact[rng.random(batch_size) < COARSE_DROPPED] = mask_token
        guides = [guide[row:row + window, column:column + window]
                  for guide, row, column in zip(guide_tokens(inexact), rows, columns, strict=True)]
        yield (np.stack(windows).astype(np.int32), contexts, np.where(dropped[1], -1, classes[grids]).astype(np.int32),
               np.stack(guides))


def corner_windows(grids: NDArray[np.integer], coarse: NDArray[np.integer], window: int, context: int,
                   mask_token: int) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """The window at the top left of each grid int [N, h, w], with its context and guides: int32 [N, window, window],
    [N, context], [N, window, window]. As in token_windows, but nothing is dropped or wrong, and the context is the same
    in every call."""
    rng = np.random.default_rng(0)
    contexts = [outside_tokens(grid, 0, 0, window, context, mask_token, rng) for grid in grids]
    return (grids[:, :window, :window].astype(np.int32), np.stack(contexts).astype(np.int32),
            guide_tokens(coarse)[:, :window, :window])
