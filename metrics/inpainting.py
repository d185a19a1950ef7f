"""Evaluation of inpainting: hide parts of photographs, fill them with each method, and compare."""
import math
import time
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.restoration import inpaint_biharmonic
from tqdm import tqdm

from decoding.colours import UNCHANGED, colour_map
from decoding.growth import Growth
from decoding.guides import no_guide
from decoding.holes import any_in_squares, random_square
from decoding.inpainter import FILLING, Inpainter
from decoding.raster_decoding import raster_steps
from decoding.token_decoding import SCHEDULES, decoding_steps, log_softmax
from metrics.outpainting import Metrics, over_halves
from metrics.perceptual import kid
from metrics.sets import seam_lines, seam_score
from utilities import own_seed

SQUARE = 64  # pixels, side of a hole
FREE_FORM = 96  # pixels, side of the square in which free forms are drawn; its tokens fit in a window
SURROUNDINGS = 96  # pixels, side of what is compared by features of a network, around a hole
STEPS = 1, 4, 8, 12
CERTAIN = 1e6  # logit that no noise exceeds

Fill = Callable[[NDArray[np.uint8], NDArray[np.bool]], NDArray[np.uint8]]


def free_form(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.bool]:
    """A hole as a brush paints it, bool [*shape]: a line of three to seven straight pieces, 12 to 24 pixels wide, in a
    square of FREE_FORM pixels anywhere. After Yu et al., Free-form image inpainting with gated convolution, arXiv
    1806.03589."""
    width = int(rng.integers(12, 25))
    points = rng.integers(width // 2, FREE_FORM - width // 2, (int(rng.integers(4, 9)), 2))
    painted = np.zeros((FREE_FORM, FREE_FORM), np.uint8)
    cv2.polylines(painted, [points.astype(np.int32)], False, 1, width, cv2.LINE_8)
    hole = np.zeros(shape, bool)
    top, left = (int(rng.integers(0, length - FREE_FORM + 1)) for length in shape)
    hole[top:top + FREE_FORM, left:left + FREE_FORM] = painted > 0
    return hole


HOLES: dict[str, Callable] = {"square": lambda shape, rng: random_square(shape, SQUARE, rng), "free form": free_form}


def around(hole: NDArray[np.bool], side: int) -> tuple[slice, slice]:
    """Rows and columns of the square of `side` pixels around the middle of a hole, bool [H, W], inside the picture."""
    first = [int(np.clip(np.flatnonzero(hole.any(axis=axis))[[0, -1]].mean() - side / 2, 0, length - side))
             for axis, length in ((1, hole.shape[0]), (0, hole.shape[1]))]
    return slice(first[0], first[0] + side), slice(first[1], first[1] + side)


def biharmonic(picture: NDArray[np.uint8], hole: NDArray[np.bool]) -> NDArray[np.uint8]:
    """scikit-image's inpainting by biharmonic functions. Damelin and Hoang 2018, "On surface completion and image
    inpainting by biharmonic functions"."""
    filled = inpaint_biharmonic(picture, hole, channel_axis=-1)
    return np.clip(255 * filled + 0.5, 0, 255).astype(np.uint8)


BASELINES: dict[str, Fill] = {
    "OpenCV, Telea": lambda picture, hole: cv2.inpaint(picture, hole.astype(np.uint8), 5, cv2.INPAINT_TELEA),
    "OpenCV, Navier-Stokes": lambda picture, hole: cv2.inpaint(picture, hole.astype(np.uint8), 5, cv2.INPAINT_NS),
    "biharmonic": biharmonic}


def hidden_log_probabilities(inpainter: Inpainter, picture: NDArray[np.uint8], hole: NDArray[np.bool],
                             growth: Growth) -> tuple[NDArray[np.floating], NDArray[np.bool]]:
    """Log-probability of each true token of a hole, float [N], and whether it was the most probable one, bool [N].

    A method decides the tokens in its own order; before each, those that it decided earlier are the true ones. So the
    mean is comparable between methods: it is the log-likelihood of the hole for each of its tokens.

    Args:
        picture: uint8 [H, W, 3], multiples of a token.
        hole: bool [H, W], whose tokens fit in a window.
        growth: of which maskgit_steps and schedule count.
    """
    hidden = any_in_squares(hole, inpainter.downscale)
    colours = colour_map(picture[~hole]) if inpainter.maskgit_config["colours"] == "normalised" else UNCHANGED
    true = np.asarray(inpainter.encode(colours.normalised(picture)[None]))
    seen = np.where(hidden, inpainter.mask_token, true).astype(np.int32)
    # A picture may be smaller than the window; the default networks take windows of any even size.
    rows, columns = around(hidden, min(inpainter.window, *hidden.shape) // 2 * 2)
    true, windows = true[:, rows, columns], seen[:, rows, columns]
    seeds = [own_seed(0, "log-loss")]
    found: list[NDArray[np.float32]] = []

    def forced(logits: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        found.append(log_softmax(logits))
        return np.where(np.arange(found[-1].shape[-1]) == tokens[..., None], CERTAIN, 0)

    if inpainter.begin is None:
        network = inpainter.network(seen[0], replace(growth, guidance=0.0))
        guides = no_guide(windows.shape, inpainter.mask_token)
        steps = decoding_steps(windows, lambda tokens: forced(network(tokens, guides), true), inpainter.mask_token,
                               seeds, growth.maskgit_steps, growth.schedule, temperature=0)
        at_places = [(found[-1][decided], true[decided]) for _, decided, _ in steps]
    else:
        following = inpainter.begin(windows, np.full(1, -1, np.int32))
        in_order = true[windows == inpainter.mask_token]
        steps = raster_steps(windows, lambda _: lambda step, _: forced(following(step, in_order[[step - 1]]),
                                                                       in_order[[step]]),
                             inpainter.mask_token, seeds, temperature=0)
        at_places = [(found[-1], true[decided]) for _, decided, _ in steps]
    of_hidden, tokens = (np.concatenate(part) for part in zip(*at_places, strict=True))
    return of_hidden[np.arange(len(tokens)), tokens], of_hidden.argmax(axis=-1) == tokens


def nothing_painted(inpainter: Inpainter, picture: NDArray[np.uint8], hole: NDArray[np.bool]) -> bool:
    """Whether all tokens that lie wholly in a hole are the same."""
    inside = ~any_in_squares(~hole, inpainter.downscale)
    tokens = np.asarray(inpainter.encode(picture[None]))[0][inside]
    return len(tokens) > 1 and len(set(tokens.tolist())) == 1


def compared(true: NDArray[np.uint8], filled: NDArray[np.uint8], holes: NDArray[np.bool],
             references: NDArray[np.floating], features: Callable) -> Metrics:
    """Metrics of filled pictures uint8 [N, H, W, 3], with holes bool [N, H, W], of the photographs `true`.

    references: features of the same squares of other photographs, float [M, D].
    """
    squares = [around(hole, SURROUNDINGS) for hole in holes]
    found, expected = (features(np.stack([picture[square] for picture, square in zip(pictures, squares, strict=True)]))
                       for pictures in (filled, true))
    error = float(np.mean(((filled.astype(np.float32) - true)[holes] / 255) ** 2))
    seams = [seam_score(picture, *seam_lines(hole, np.ones_like(hole), (4, 8)))
             for picture, hole in zip(filled, holes, strict=True)]
    return {"kid": over_halves(len(found), lambda chosen: kid(found[chosen], references)),
            "feature_distance": float(np.linalg.norm(found - expected, axis=1).mean()),
            "psnr_db": -10 * math.log10(max(error, 1e-10)), "seam": float(np.mean(seams))}


def measure_inpainting(pictures: NDArray[np.uint8], reference: NDArray[np.uint8], bidirectional: Inpainter,
                       autoregressive: Inpainter, seed: int, features: Callable) -> dict[str, dict[str, Metrics]]:
    """{kind of hole: {method: {metric: value or (value, low, high)}}} of both transformers, MaskGIT with each of STEPS
    and SCHEDULES and with repainting, of baselines and of photographs. With repainting there is no log-loss.

    Args:
        pictures: uint8 [N, S, S, 3] to hide parts of; S is a multiple of a token and at least FREE_FORM.
        reference: uint8 [M, S, S, 3] of other photographs.
        autoregressive: one that uses an autoregressive transformer.
        features: result of perceptual.load_features.
    """
    once = replace(FILLING, repaints=0)
    growths = [replace(once, maskgit_steps=steps) for steps in STEPS]
    growths += [replace(once, schedule=schedule) for schedule in SCHEDULES if schedule != once.schedule]
    transformers = {f"bidirectional, {growth.schedule}, {growth.maskgit_steps} step" + "s" * (growth.maskgit_steps > 1):
                    (bidirectional, growth) for growth in growths} | {"autoregressive": (autoregressive, once)}

    def with_transformer(inpainter: Inpainter, growth: Growth) -> Fill:
        return lambda picture, hole: next(inpainter.inpaint(picture, hole, growth, seed))

    methods = ({name: with_transformer(*pair) for name, pair in transformers.items()}
               | {"bidirectional, repainted": with_transformer(bidirectional, FILLING)} | BASELINES)
    scores: dict[str, dict[str, Metrics]] = {}
    for kind, draw in HOLES.items():
        own, others = (np.stack([draw(picture.shape[:2], np.random.default_rng(own_seed(seed, part, index)))
                                 for index, picture in enumerate(each)])
                       for part, each in (("hole", pictures), ("reference", reference)))
        references = features(np.stack([picture[around(hole, SURROUNDINGS)]
                                        for picture, hole in zip(reference, others, strict=True)]))
        scores[kind] = {}
        for name, fill in tqdm(methods.items(), f"{kind} holes", unit="method", leave=False):
            fill(pictures[0], own[0])  # builds what is built at the first call
            start = time.perf_counter()
            filled = np.stack([fill(*pair) for pair in zip(pictures, own, strict=True)])
            seconds = (time.perf_counter() - start) / len(filled)
            scores[kind][name] = compared(pictures, filled, own, references, features) | {
                "nothing_painted": float(np.mean([nothing_painted(bidirectional, *pair)
                                                  for pair in zip(filled, own, strict=True)])), "seconds": seconds}
            if name in transformers:
                inpainter, growth = transformers[name]
                losses, right = zip(*(hidden_log_probabilities(inpainter, *pair, growth)
                                      for pair in zip(pictures, own, strict=True)), strict=True)
                scores[kind][name] |= {"log_loss": -float(np.concatenate(losses).mean()),
                                       "accuracy": float(np.concatenate(right).mean())}
        scores[kind]["real photographs"] = compared(pictures, pictures, own, references, features) | {
            "nothing_painted": float(np.mean([nothing_painted(bidirectional, *pair)
                                              for pair in zip(pictures, own, strict=True)]))}
    return scores
