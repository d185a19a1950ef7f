"""Grow a photograph of clouds by one step on every side, with NumPy, ONNX Runtime and Pillow alone.

  python onnx_outpainting.py onnx/ sky.jpg larger_sky.png

onnx/ is the result of `python export.py --output onnx/`. The photograph is scaled so that its shorter side has 512
pixels, and its longer side is cut to a multiple of 128. The result is that of Outpainter with
Growth(token_scale=1, repaints=0) for this picture and seed 0, where NumPy draws the noise. Each network gets the whole
canvas at once, so large pictures need much memory.
"""
import json
import sys
import zlib
from math import acos, ceil, pi
from pathlib import Path

import numpy as np
from onnxruntime import InferenceSession
from PIL import Image

BORDER = 4  # tokens by which the photograph is extended before it is encoded
REACHES, FADING = (16, 8, 4, 2), 1.5  # of seamless: pixels; distance at which a correction has fallen to 1 / e


def run(network, *arrays):
    return network.run(None, dict(zip([each.name for each in network.get_inputs()], arrays, strict=True)))


def generator(*key):
    seed, *words = (zlib.crc32(part.encode()) if isinstance(part, str) else part for part in key)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=words))


def shrunk(picture, factor):
    height, width, _ = picture.shape
    return picture.reshape(height // factor, factor, width // factor, factor, 3).mean(axis=(1, 3), dtype=np.float32)


def colour_matrix(pixels, covariance, noise, gains):
    """The matrix that gives the colours of pixels [N, 3] this covariance."""
    def root(matrix):
        values, axes = np.linalg.eigh(matrix)
        return axes * np.sqrt(np.maximum(values, 0)) @ axes.T

    grain = noise**2 * np.eye(3)
    own = root(np.cov(pixels.T) + grain)
    values, axes = np.linalg.eigh(np.linalg.inv(own) @ root(own @ (covariance + grain) @ own) @ np.linalg.inv(own))
    return axes * np.clip(values, *gains) @ axes.T


def starts(first, last, size):
    """Starts of windows that cover a side: every second one, then those between them."""
    count = max(0, ceil((last - first - size) / (size * 3 // 4))) + 1
    found = [first + round(index * (last - first - size) / (count - 1)) for index in range(count)
             ] if count > 1 else [first + (last - first - size) // 2]
    return found[::2] + found[1::2]


def fill(tokens, context, network, config, seed):
    """Fill the mask tokens of a canvas int32 [h, w], window by window: first the sides, then the corners."""
    size, mask, halton = config["window"], config["mask_token"], np.array(config["halton"])
    context = context[np.linspace(0, len(context) - 1, config["context_tokens"]).round().astype(int)]
    no_label, no_guide = np.array([-1], np.int32), np.full((1, size, size), 4 * mask, np.int32)
    rows, columns = (starts(config["step"], side - config["step"], size) for side in tokens.shape)
    top_bottom, left_right = ((0, side - size) for side in tokens.shape)
    places = [(row, column) for column in columns for row in top_bottom]
    places += [(row, column) for row in rows for column in left_right]
    places += [(row, column) for row in top_bottom for column in left_right]
    for number, (row, column) in enumerate(dict.fromkeys(places)):
        window = tokens[row:row + size, column:column + size]
        key = seed, "tokens", 0, 4 * config["downscale"], "window", number
        order = np.roll(halton, generator(*key, "roll").integers(halton.shape), axis=(0, 1))
        count = left = (window == mask).sum()
        steps = ceil(config["maskgit_steps"] * count / (size**2 // 2))
        for step in range(steps):
            logits = run(network, window[None], context[None], no_label, no_guide)[0][0]
            noise = generator(*key, "tokens", step).gumbel(size=logits.shape).astype(np.float32)
            sampled = np.argmax(logits + config["temperature"] * noise, axis=-1)
            wanted = int(count * acos((step + 1) / steps) / (pi / 2) + 1e-9)
            decided = left - max(0, min(left - 1, max(wanted, steps - step - 1)))
            chosen = (window == mask) & (order <= np.sort(order[window == mask])[decided - 1])
            window[chosen], left = sampled[chosen], left - decided
    return tokens


def blurred(picture, deviation):
    taps = np.exp(-np.arange(-4 * deviation, 4 * deviation + 1) ** 2 / (2 * deviation**2))
    for _ in range(2):
        padded = np.pad(picture, ((4 * deviation, 4 * deviation), (0, 0), (0, 0)), mode="reflect")
        picture = sum(tap * padded[start:start + len(picture)] for start, tap in enumerate(taps / taps.sum()))
        picture = picture.swapaxes(0, 1)
    return picture


def restored(decoded, matrix, mean, pixels, config):
    """Decoded colours with those of the photograph's pixels [N, 3]: hues of bright ones are the photograph's, brighter
    highlights are compressed, and colours out of range lose saturation."""
    some = pixels[np.linspace(0, len(pixels) - 1, config["colour_pixels"]).round().astype(int)]
    levels = np.array([part.mean(axis=0) for part in np.array_split(some[some.mean(axis=1).argsort()],
                                                                    config["colour_levels"])])
    colours = (decoded - config["colour_mean"]) @ np.linalg.inv(matrix) + mean
    grey, greys = colours.mean(axis=-1, keepdims=True), levels.mean(axis=1)
    own = grey + np.stack([np.interp(grey[..., 0], greys, tint - greys) for tint in levels.T], axis=-1)
    certain, uncertain = config["colour_certain"]
    colours += ((decoded.max(axis=-1, keepdims=True) - certain) / (uncertain - certain)).clip(0, 1) * (own - colours)
    if (highest := grey.max()) > 1:
        colours -= (highest - 1) / (highest - greys[-1]) * np.maximum(grey - greys[-1], 0)
    grey = np.clip(colours.mean(axis=-1, keepdims=True), 0, 1)
    excess = np.abs(colours - grey) / np.maximum(np.where(colours > grey, 1 - grey, grey), 1e-6)
    return grey + (colours - grey) / np.maximum(excess.max(axis=-1, keepdims=True), 1)


def seamless(low, photograph, margin):
    """Correct the colours of a decoded canvas near the photograph's border, which is `margin` pixels from the edge."""
    rows, columns = np.ix_(*(np.abs(np.arange(side) - (side - 1) / 2) - (side - 1) / 2 + margin
                             for side in low.shape[:2]))
    inside = (rows <= 0) & (columns <= 0)
    distance = np.where(inside, 1 - np.maximum(rows, columns), np.hypot(rows.clip(0), columns.clip(0))) - 0.5
    added, missing = 0, np.pad(photograph, ((margin, margin), (margin, margin), (0, 0))) - low
    for reach in REACHES:
        band = (inside & (distance < reach / 2))[..., None]
        mean = blurred((missing - added) * band, reach) / (blurred(band, reach) + 1e-5)
        added = added + mean * np.exp(-distance / (FADING * reach))[..., None]
    return np.clip(low + added, 0, 1)


def add_octave(half, photograph, place, networks, solver, gain, key):
    """A picture twice as large as `half`, in which the photograph begins at (place, place)."""
    exact = np.pad(photograph, ((place, place), (place, place), (0, 0)))[None]
    known = np.pad(np.ones_like(photograph[::2, ::2, :1]), ((place // 2, place // 2),) * 2 + ((0, 0),))[None]
    half, target, condition, strength = run(networks["prepare"], half[None].astype(np.float32), exact, known)
    condition = condition.astype(np.float16).astype(np.float32)  # Outpainter keeps it so
    noisy, clean = generator(*key, "start").standard_normal(target.shape, np.float32), 0
    for index, (time, *weights) in enumerate(solver):
        found, = run(networks["estimate"], condition, noisy, np.array(time, np.float32))
        clean, before = np.where(known > 0, target, found), clean
        fresh = generator(*key, "step", index).standard_normal(target.shape, np.float32)
        noisy = sum(weight * part for weight, part in zip(weights, (noisy, clean, before, fresh), strict=True))
    stronger = np.where(known > 0, clean, clean * np.array(gain, np.float32))
    return run(networks["finish"], half, stronger, strength)[0][0]


def grow(photograph, networks, config, seed=0):
    """A photograph uint8 [H, W, 3] with one step of new sky on every side. H and W are multiples of 128."""
    size, target = config["downscale"], np.array(config["colour_mean"])
    low = np.rint(shrunk(photograph, 4))
    pixels = low.reshape(-1, 3) / 255.0
    mean = pixels.mean(axis=0)
    matrix = colour_matrix(pixels, config["colour_covariance"], config["colour_noise"],
                           config["colour_gains"])
    normal = np.floor(np.clip((low - 255 * mean) @ matrix + 255 * target + 0.5, 0, 255)).astype(np.float32)
    extended = np.pad(normal, ((BORDER * size,) * 2, (BORDER * size,) * 2, (0, 0)), mode="symmetric")
    known = run(networks["encode"], extended[None])[0][0, BORDER:-BORDER, BORDER:-BORDER]
    tokens = fill(np.pad(known, config["step"], constant_values=config["mask_token"]), known.ravel(),
                  networks["maskgit"], config, seed)
    decoded = run(networks["decode"], tokens[None])[0][0]
    coloured = restored(decoded, matrix, mean, pixels, config)
    picture = shrunk(seamless(coloured, low / 255, config["step"] * size), 4)
    for octave, solver in zip((3, 2, 1, 0), config["solvers"], strict=True):
        picture = add_octave(picture, shrunk(photograph / np.float32(255), 2**octave),
                             4 * config["step"] * size >> octave, networks, solver, config["gain"],
                             (seed, "pixels", 0, "octave", octave))
    return np.clip(np.rint(picture * 255), 0, 255).astype(np.uint8)


def scaled(picture):
    ratio = 512 / min(picture.size)
    picture = picture.convert("RGB").resize([round(side * ratio) for side in picture.size], Image.Resampling.LANCZOS)
    return np.asarray(picture.crop((0, 0, *(side - side % 128 for side in picture.size))))


def load(folder):
    networks = {path.stem: InferenceSession(path) for path in Path(folder).glob("*.onnx")}
    return networks, json.loads((Path(folder) / "config.json").read_text())


if __name__ == "__main__":
    Image.fromarray(grow(scaled(Image.open(sys.argv[2])), *load(sys.argv[1]))).save(sys.argv[3])
