"""Judging outpainting: hide all but the middle of photographs, continue it, and compare with what was hidden.

The sets are compared as distributions, because there are many right answers. The reference are other photographs than
those that are continued, so a method gains nothing by copying, and real photographs mark the floor. Which photographs
these are moves all marks of a small set; so there are paired marks as well, distances from what was hidden itself, as
one distribution for the whole set.
"""
import cv2
import numpy as np
from tqdm import tqdm

from dataset import MONOCHROME_DEVIATION
from distributions import (
    PATCH,
    colour_histogram,
    frechet_distance,
    histogram_distance,
    kernel_distance,
    patch_descriptors,
    random_features,
    seam_lines,
    seam_score,
    sliced_wasserstein,
    token_entropy,
)
from outpainting import Models, grow, ring_depth
from outpainting import build_parser as outpainting_parser
from utilities import UserError
from windows import grid_windows, in_batches, ring_windows

PATCHES = 64  # of each picture and level
BOOTSTRAPS = 30
INTERVAL = 0.05, 0.95
ONE_STEP = "outpainting.py, one step"


def middle(size, unit):
    """(first, end) of the middle half of a side, in whole units."""
    units = size // unit
    margin = units // 4
    return margin * unit, (units - margin) * unit


def replicated(picture, margin):
    """The pixels of the border of uint8 [h, w, 3], drawn outwards."""
    return cv2.copyMakeBorder(picture, *[margin] * 4, cv2.BORDER_REPLICATE)


def mirrored(picture, margin):
    """The picture, mirrored at its borders."""
    return cv2.copyMakeBorder(picture, *[margin] * 4, cv2.BORDER_REFLECT)


def inpainted(picture, margin):
    """OpenCV's inpainting. Telea 2004, "An image inpainting technique based on the fast marching method"."""
    canvas = replicated(picture, margin)
    hidden = np.full(canvas.shape[:2], 255, np.uint8)
    hidden[margin:-margin, margin:-margin] = 0
    return cv2.inpaint(canvas, hidden, 5, cv2.INPAINT_TELEA)


BASELINES = {"edge replication": replicated, "mirroring": mirrored, "OpenCV inpainting": inpainted}


def painters(size, first, end, window, step, decoding):
    """Which windows decided each token around the middle of a picture, as whole numbers: int [size, size].

    Where neighbours differ, windows meet. `full` and `simple` decide a token in the first window that holds it; `joint`
    takes the mean of all that do. The middle's numbers say nothing.

    Args:
        size, first, end: side of the picture, and where its middle begins and ends.
        window: side of a window.
        step: depth of a ring. All in tokens.
        decoding: option of outpainting.py.
    """
    side = max(size, window)
    if decoding == "joint":
        places = grid_windows(side, side, (window, window), window // 2)
    else:
        places = ring_windows((first, end, first, end), side, side, window, step)
    holds = np.zeros((len(places), side, side), bool)
    for held, (row, column) in zip(holds, places, strict=True):
        held[row:row + window, column:column + window] = True
    if decoding == "joint":
        numbers = np.unique(holds.reshape(len(places), -1), axis=1, return_inverse=True)[1].reshape(side, side)
    else:
        numbers = holds.argmax(axis=0)
    return numbers[:size, :size]


def outpainting_options(args, options):
    """What outpainting.py makes of args of evaluate.py and of more options, a list of words."""
    words = [f"--attempt_count={args.attempts}", "--no-generate_upsampled", "--wandb=disabled", f"--seed={args.seed}",
             f"--threads={args.threads}", f"--use_gpu={args.use_gpu}", f"--precision={args.precision}", *options]
    words += [f"--{kind}_run={name}" for kind in ("tokenizer", "maskgit", "sharpen")
              if (name := getattr(args, f"{kind}_run"))]
    return outpainting_parser().parse_args(words)


def continued(pictures, models, own, name):
    """A list of uint8 [N, S, S, 3]: what outpainting.py makes of the middles of such pictures, in each attempt.

    models: outpainting.Models. own: options of outpainting.py; those of the size are set here. name: of the bar.
    """
    first, end = middle(pictures.shape[1], models.downscale)
    own.img_size = end - first
    own.outpaint_range = first / models.downscale / models.window / own.outpaint_step
    results = [[low for low, _ in grow(picture[first:end, first:end], models, own, lambda _: iter)]
               for picture in tqdm(pictures, name, unit="picture", leave=False)]
    return [np.stack(attempt) for attempt in zip(*results, strict=True)]


class Judge:
    """Measures sets of pictures, uint8 [N, S, S, 3], around their middle, against a reference set.

    Args:
        encode: function uint8 [B, S, S, 3] -> tokens int [B, S / unit, S / unit], of so many codes.
        decided: painters of these tokens; the mark window_seam is left out where no windows meet.
        inception: what load_inception returns, or None.
    """

    def __init__(self, reference, encode, unit, codes, decided, inception):
        self.encode, self.codes, self.inception = encode, codes, inception
        size = reference.shape[1]
        self.first, self.end = middle(size, unit)
        self.outer = np.ones((size, size), bool)
        self.outer[self.first:self.end, self.first:self.end] = False
        self.levels = 1 + int(np.log2(self.first / PATCH))  # coarser ones are narrower than a patch
        self.outer_tokens = self.outer[::unit, ::unit]
        # Compared with other borders of tokens: in photographs these are borders of JPEG blocks as well.
        beside = unit, 2 * unit
        seams = {"seam": seam_lines(self.outer, np.ones_like(self.outer), beside),
                 "window_seam": seam_lines(np.kron(decided, np.ones((unit, unit), int)), self.outer, beside)}
        self.seams = {name: lines for name, lines in seams.items()
                      if all(any(pairs.any() for pairs in kind) for kind in lines)}
        self.reference = self.observe(reference)

    def observe(self, pictures):
        """What the distances are computed from, for each picture: a dictionary of arrays of N rows."""
        rng = np.random.default_rng(0)
        size, quarter = pictures.shape[1], pictures.shape[1] // 4
        places = [(row, column) for row in range(0, size - quarter + 1, quarter)
                  for column in range(0, size - quarter + 1, quarter)
                  if self.outer[row:row + quarter, column:column + quarter].mean() > 0.9]
        tiles = [pictures[:, row:row + quarter, column:column + quarter] for row, column in places]
        grids = np.concatenate([np.asarray(self.encode(part)) for part in in_batches(pictures, 16)])
        tokens = grids[:, self.outer_tokens]
        seen = {
            "patches": patch_descriptors(pictures, self.outer, self.levels, PATCHES, rng),
            "features": np.stack([random_features(tile) for tile in tiles], axis=1),
            "colours": np.stack([colour_histogram(picture[self.outer]) for picture in pictures]),
            "tokens": np.stack([np.bincount(row, minlength=self.codes) for row in tokens]),
            "entropy": np.array([token_entropy(row) for row in tokens]),
            "deviation": colour_deviation(pictures[:, self.outer]),
        }
        for name, lines in self.seams.items():
            seen[name] = np.array([seam_score(picture, *lines) for picture in pictures])
        if self.inception:
            seen["inception"] = np.stack([self.inception(tile) for tile in tqdm(
                tiles, "Inception", unit="tile", leave=False)], axis=1)
        return seen

    def marks(self, seen, chosen):
        """Marks of the chosen pictures, int [K], of what observe gave for a set."""
        marks = self.distances(seen, chosen, self.reference)
        marks["entropy_bits"] = float(seen["entropy"][chosen].mean())
        return marks | {name: float(seen[name][chosen].mean()) for name in self.seams}

    @staticmethod
    def distances(seen, chosen, reference):
        """Distances of the chosen pictures, int [K], of what observe gave for a set, from what it gave for another."""
        marks = {f"swd_{2**level}x": sliced_wasserstein(pooled(patches, chosen), pooled(others))
                 for level, (patches, others) in enumerate(zip(seen["patches"], reference["patches"], strict=True))}
        marks["swd"] = float(np.mean(list(marks.values())))
        others = pooled(reference["features"])
        scale = others.std(axis=0).mean()
        features = pooled(seen["features"], chosen) / scale, others / scale
        marks["frechet"], marks["kernel"] = frechet_distance(*features), kernel_distance(*features)
        for name in ("colours", "tokens"):
            marks[name] = histogram_distance(seen[name][chosen].sum(axis=0), reference[name].sum(axis=0))
        return marks

    def inception_distances(self, seen):
        """Marks of a whole set. They have no intervals, because in so many dimensions pictures that resampling repeats
        move them more than chance does."""
        features = pooled(seen["inception"]), pooled(self.reference["inception"])
        return {"inception_frechet": frechet_distance(*features), "inception_kernel": kernel_distance(*features)}


def colour_deviation(pixels):
    """Mean absolute deviation from the mean colour of each set of pixels, uint8 [N, P, 3] -> float [N] in [0, 1]."""
    pixels = pixels.astype(np.float32)
    return np.abs(pixels - pixels.mean(axis=1, keepdims=True)).mean(axis=(1, 2)) / 255


def pooled(values, chosen=slice(None)):
    """The rows of the chosen pictures together: float [N, K, D] -> [len(chosen) * K, D]."""
    return values[chosen].reshape(-1, values.shape[-1])


def with_intervals(judge, seen, rng):
    """{mark: (value, low, high)}: marks of a set and what INTERVAL of resampled sets of its pictures give."""
    count = len(seen["seam"])
    value = judge.marks(seen, np.arange(count))
    again = [judge.marks(seen, rng.integers(0, count, count))
             for _ in tqdm(range(BOOTSTRAPS), "resampling", leave=False)]
    return {name: (value[name], *np.quantile([each[name] for each in again], INTERVAL).tolist()) for name in value}


def measure_outpainting(pictures, reference, args, options=(), inception=None):
    """Marks of outpainting.py, the same in one step, of the baselines and of real photographs, as
    {method: {mark: value or (value, low, high)}}. Seams of windows are those of outpainting.py's own windows for all.

    Args:
        pictures: uint8 [N, S, S, 3], whose middle half is continued.
        reference: uint8 [M, S, S, 3] of other photographs.
        args: attempts, seed, machine options, tokenizer_run, maskgit_run.
        options: of outpainting.py, a list.
        inception: what load_inception returns, to compare by its features as well.
    """
    own = outpainting_options(args, options)
    models = Models(own)
    size, unit = pictures.shape[1], models.downscale
    if size % unit:
        raise UserError(f"--img_size {size}: outpainting is measured on multiples of {unit} pixels.")
    first, end = middle(size, unit)
    decided = painters(size // unit, first // unit, end // unit, models.window, ring_depth(own, models.window),
                       own.decoding)
    judge = Judge(reference, models.encode, unit, models.mask_token, decided, inception)
    attempts = continued(pictures, models, own, "outpainting.py")
    sets = {"outpainting.py": attempts[0]}
    if own.decoding != "simple":
        simple = outpainting_options(args, [*options, "--decoding=simple", "--attempt_count=1"])
        sets[ONE_STEP] = continued(pictures, models, simple, ONE_STEP)[0]
    for name, method in BASELINES.items():
        sets[name] = np.stack([method(picture[first:end, first:end], first) for picture in pictures])
    sets["real photographs"] = pictures
    cloudy = colour_deviation(pictures[:, ~judge.outer]) > MONOCHROME_DEVIATION
    rng, scores, true = np.random.default_rng(0), {}, judge.observe(pictures)
    for name, results in tqdm(sets.items(), "comparing", unit="set", leave=False):
        seen = true if results is pictures else judge.observe(results)
        scores[name] = with_intervals(judge, seen, rng)
        paired = judge.distances(seen, slice(None), true)
        scores[name] |= {f"paired_{mark}": value for mark, value in paired.items()}
        if inception:
            scores[name] |= judge.inception_distances(seen)
        error = (results[:, judge.outer].astype(np.float32) - pictures[:, judge.outer]) ** 2
        scores[name]["rms_error"] = float(np.sqrt(error.mean()))
        scores[name]["collapsed"] = float((seen["deviation"][cloudy] < MONOCHROME_DEVIATION / 4).mean())
    if len(attempts) > 1:
        outer = [each[:, judge.outer].astype(np.float32) for each in attempts]
        between = [np.abs(a - b).mean() for index, a in enumerate(outer) for b in outer[index + 1:]]
        real = pictures[:, judge.outer].astype(np.float32)
        scores["outpainting.py"]["diversity"] = float(np.mean(between) / np.abs(real - np.roll(real, 1, axis=0)).mean())
    return scores
