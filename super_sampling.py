"""Octaves on a canvas of any size: all tiles of an octave are denoised together. Functions of arrays and callables."""
import numpy as np

import octaves
from diffusion import sample
from utilities import own_seed

TILE, MARGIN = 512, 44  # pixels of the half; the margin is as wide as the network's view
MULTIPLE = 8  # of the height and width of a half


def add_octave(half, known, prepare, estimate, steps, seed, solver="ancestral", fresh=1.0, progress=iter):
    """A picture twice as large as `half`, float32 [2h, 2w, 3] in [0, 1] or little beyond.

    Args:
        half: float32 [h, w, 3] in [0, 1]; h and w are multiples of MULTIPLE.
        known: (picture float32 [r, c, 3] in [0, 1], top, left): what the result shows from (top, left) on, even
            numbers; or None.
        prepare, estimate: those of diffusion_model_upscale.OctaveSampler, as functions of arrays.
        steps, solver: of diffusion.sample.
        seed: of own_seed.
        fresh: what the noise is multiplied with that is drawn anew; less than 1 gives a calmer octave.
        progress: wraps the range of steps.
    """
    half = np.asarray(octaves.yuv(half))
    height, width = half.shape[:2]
    mask, picture = np.zeros((height, width, 1), np.float32), np.zeros((2 * height, 2 * width, 3), np.float32)
    if known is not None:
        part, top, left = known
        rows, columns = part.shape[0] // 2, part.shape[1] // 2
        mask[top // 2:top // 2 + rows, left // 2:left // 2 + columns] = 1
        picture[top:top + 2 * rows, left:left + 2 * columns] = part[:2 * rows, :2 * columns]
        picture = np.asarray(octaves.yuv(picture))
        half = np.where(mask > 0, np.asarray(octaves.halve(picture[None]))[0], half)
    wanted, condition, strength = (np.asarray(each) for each in prepare(half[None], picture[None], mask[None]))
    places = [place for place in tiles(height, width) if not mask[place[0], place[1]].all()]

    def denoised(noisy, time):
        clean = wanted.copy()
        for rows, columns in places:
            seen = [slice(max(0, part.start - MARGIN), part.stop + MARGIN) for part in (rows, columns)]
            inside = [slice(part.start - view.start, part.stop - view.start)
                      for part, view in zip((rows, columns), seen, strict=True)]
            found = np.asarray(estimate(condition[:, seen[0], seen[1]], noisy[:, seen[0], seen[1]], np.float32(time)))
            clean[:, rows, columns] = found[:, inside[0], inside[1]]
        return np.where(mask > 0, wanted, clean)

    rng = np.random.default_rng(own_seed(seed))
    start = rng.standard_normal(wanted.shape, np.float32)
    octave = sample(denoised, start, steps, "wide", solver, rng, fresh, progress)
    return np.asarray(octaves.rgb(octaves.with_octave(half[None], octave, strength)))[0]


def tiles(height, width):
    """(row slice, column slice) of tiles of at most TILE that cover a half, multiples of MULTIPLE."""
    def cut(length):
        count = -(-length // TILE)
        size = -(-length // count // MULTIPLE) * MULTIPLE
        return [slice(start, min(start + size, length)) for start in range(0, length, size)]

    return [(rows, columns) for rows in cut(height) for columns in cut(width)]
