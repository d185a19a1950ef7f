"""Grow a photograph of clouds by one step on every side, with NumPy, ONNX Runtime and Pillow alone.

  python onnx_outpainting.py onnx/ sky.jpg larger_sky.png

onnx/ is the result of `python export.py --format onnx --output onnx/`. The photograph is scaled so that its shorter side
has 512 pixels, and the longer one is cut to a multiple of 128. The result is that of Outpainter with Growth() for this
picture, where NumPy draws the noise, as it does with the backend JAX. A small picture fits into memory, so each network
gets the whole canvas at once.
"""
import json
import math
import sys
import zlib
from pathlib import Path

import numpy as np
from onnxruntime import InferenceSession
from PIL import Image

SCALE, SHRINK, EDGE = 4, 4, 4  # result / decoded picture; decoded / first picture with octaves; mirrored tokens
REACHES, FADING = (16, 8, 4, 2), 1.5  # of seamless


def load(folder):
    """({name: function of arrays -> list of arrays}, the numbers in config.json)."""
    def network(path):
        session = InferenceSession(path, providers=["CPUExecutionProvider"])
        names = [each.name for each in session.get_inputs()]
        return lambda *arrays: session.run(None, dict(zip(names, arrays, strict=True)))

    return {path.stem: network(path) for path in Path(folder).glob("*.onnx")}, json.loads(
        (Path(folder) / "config.json").read_text())


def generator(seed, *key):
    """NumPy's generator for a seed and a key of words and numbers."""
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in key]
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=words))


def grow(photograph, nets, config, seed=0, temperature=0.8, steps=12, diffusion_steps=12):
    """A photograph uint8 [H, W, 3] with one step of new sky on every side. H and W are multiples of 128, at least 512.

    steps: to fill half a window with tokens. diffusion_steps: in the first octave.
    """
    size, margin, mask = config["downscale"], config["step"], config["mask_token"]
    low = np.rint(shrunk(photograph.astype(np.float32), SCALE))
    to_normal, mean, target = colour_map(low / 255, **config["colours"])
    normal = np.floor(np.clip((low - 255 * mean) @ to_normal + 255 * target + 0.5, 0, 255)).astype(np.float32)
    border = EDGE * size
    known, = nets["encode"](np.pad(normal, ((border, border), (border, border), (0, 0)), mode="symmetric")[None])
    known = known[0, EDGE:-EDGE, EDGE:-EDGE]
    tokens = fill(np.pad(known, margin, constant_values=mask), known, nets["maskgit"], config, seed, temperature, steps)
    decoded = nets["decode"](tokens[None])[0][0]
    decoded = np.clip((decoded - target) @ np.linalg.inv(to_normal) + mean, 0, 1).astype(np.float32)
    picture = shrunk(seamless(decoded, low / 255, margin * size), SHRINK)
    for octave in (3, 2, 1, 0):
        exact, place = shrunk(photograph / np.float32(255), 2**octave), SCALE * margin * size >> octave
        calls, is_first = (diffusion_steps, True) if octave == 3 else (-(-diffusion_steps // 3), False)
        picture = add_octave(picture, exact, place, nets, config["signal_rates"], calls, is_first,
                             (seed, "pixels", 0, "octave", octave))
    return np.clip(np.rint(picture * 255), 0, 255).astype(np.uint8)


def shrunk(picture, factor):
    """Means of factor x factor pixels."""
    height, width, _ = picture.shape
    return picture.reshape(height // factor, factor, width // factor, factor, 3).mean(axis=(1, 3))


def colour_map(picture, mean, covariance, noise, gains):
    """The linear map that gives the colours of a picture in [0, 1] a covariance, and both mean colours."""
    def root(matrix):
        values, vectors = np.linalg.eigh(matrix)
        return vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T

    pixels, grain = np.reshape(picture, (-1, 3)).astype(np.float64), noise**2 * np.eye(3)
    own = root(np.cov(pixels.T) + grain)
    inverse = np.linalg.inv(own)
    values, axes = np.linalg.eigh(inverse @ root(own @ (np.array(covariance) + grain) @ own) @ inverse)
    return axes * np.clip(values, *gains) @ axes.T, pixels.mean(axis=0), np.array(mean)


def fill(tokens, known, maskgit, config, seed, temperature, steps):
    """Fill the mask tokens of a canvas int32 [h, w], window by window: first the sides, then the corners."""
    size, margin, mask = config["window"], config["step"], config["mask_token"]
    context = known.ravel()[np.linspace(0, known.size - 1, config["context_tokens"]).round().astype(int)]
    guide = np.full((1, size, size), 4 * mask, np.int32)  # no coarse tokens
    ranks = halton_ranks(size)
    ends = [(0, length - size) for length in tokens.shape]
    along = [alternating(margin, length - margin, size) for length in tokens.shape]
    places = [(row, column) for column in along[1] for row in ends[0]]
    places += [(row, column) for row in along[0] for column in ends[1]]
    places += [(row, column) for row in ends[0] for column in ends[1]]
    for number, (row, column) in enumerate(dict.fromkeys(places)):
        window, key = tokens[row:row + size, column:column + size], (seed, "tokens", 0, 0, "window", number)
        unknown = window == mask
        count, masked = unknown.sum(), unknown.sum()
        calls = max(1, -(-steps * count // (size**2 // 2)))
        rank = np.roll(ranks, generator(*key, "roll").integers(ranks.shape), axis=(0, 1))
        for step in range(calls * bool(count)):
            logits = maskgit(window[None], context[None], np.array([-1], np.int32), guide)[0][0]
            noise = generator(*key, "tokens", step).gumbel(size=logits.shape).astype(np.float32)
            sampled = np.argmax(logits + temperature * noise, axis=-1)
            wanted = math.floor(count * math.acos((step + 1) / calls) / (math.pi / 2) + 1e-9)
            after = max(0, min(masked - 1, max(wanted, calls - step - 1)))
            open_ranks = np.sort(rank[window == mask])
            decided = (window == mask) & (rank <= open_ranks[masked - after - 1])
            window[decided] = sampled[decided]
            masked = after
    return tokens


def alternating(first, last, size):
    """Starts of windows along a side: every second one, then those between them."""
    free = last - first - size
    count = max(0, math.ceil(free / (size * 3 // 4))) + 1
    starts = [first + round(index * free / (count - 1)) for index in range(count)] if count > 1 else [first + free // 2]
    return starts[::2] + starts[1::2]


def halton_ranks(size):
    """The place of each position in the Halton order, int [size, size]."""
    def inverse(index, base, digit=1.0):
        return index and index % base * (digit / base) + inverse(index // base, base, digit / base)

    ranks, index = np.full((size, size), -1), 0
    while (ranks < 0).any():
        place = int(inverse(index, 2) * size), int(inverse(index, 3) * size)
        ranks[place] = ranks.max() + 1 if ranks[place] < 0 else ranks[place]
        index += 1
    return ranks


def seamless(low, photograph, margin):
    """Correct the colours of a decoded canvas near the photograph's border, which is `margin` pixels from the edge."""
    rows, columns = np.ix_(*(np.abs(np.arange(side) - (side - 1) / 2) - (side - 1) / 2 + margin
                             for side in low.shape[:2]))
    inside = (rows <= 0) & (columns <= 0)
    near, far = np.sort(np.stack(np.broadcast_arrays(rows.clip(0), columns.clip(0))), axis=0)
    outside = np.maximum(far + 0.1969 * near, 0.7969 * far + 0.6031 * near)  # distances of OpenCV, nearly Euclidean
    distance = np.where(inside, 1 - np.maximum(rows, columns), outside) - 0.5
    added, difference = np.zeros_like(low), np.pad(photograph, ((margin, margin), (margin, margin), (0, 0))) - low
    for reach in REACHES:
        band = (inside & (distance < reach / 2))[..., None].astype(np.float32)
        mean = blurred((difference - added) * band, reach) / (blurred(band, reach) + 1e-5)
        added += mean * np.exp(-distance / (FADING * reach))[..., None]
    return np.clip(low + added, 0, 1)


def blurred(picture, deviation):
    """Gaussian blur."""
    taps = np.exp(-np.arange(-4 * deviation, 4 * deviation + 1) ** 2 / (2 * deviation**2))
    for _ in range(2):
        padded = np.pad(picture, ((4 * deviation, 4 * deviation), (0, 0), (0, 0)), mode="reflect")
        picture = sum(tap * padded[start:start + len(picture)] for start, tap in enumerate(taps / taps.sum()))
        picture = picture.swapaxes(0, 1)
    return picture


def add_octave(half, exact, place, nets, signal_rates, steps, ancestral, key):
    """A picture twice as large as `half`, which shows the photograph `exact` from (place, place) on."""
    height, width = exact.shape[:2]
    picture, known = (np.zeros((1, scale * half.shape[0], scale * half.shape[1], channels), np.float32)
                      for scale, channels in ((2, 3), (1, 1)))
    picture[0, place:place + height, place:place + width] = exact
    known[0, place // 2:(place + height) // 2, place // 2:(place + width) // 2] = 1
    half, target, condition, strength = nets["prepare"](half[None].astype(np.float32), picture, known)
    condition = condition.astype(np.float16).astype(np.float32)  # Outpainter keeps it so
    noisy, clean = generator(*key, "start").standard_normal(target.shape, np.float32), None
    for index in range(steps):
        found, = nets["estimate"](condition, noisy, np.array(1 - index / steps, np.float32))
        clean, previous = np.where(known > 0, target, found), clean
        if index < steps - 1:
            angles = np.interp([1 - (index + later) / steps for later in (-1, 0, 1)], [0, 1], np.arccos(signal_rates))
            before, now, then = [(math.cos(angle), math.sin(angle)) for angle in angles]
            if ancestral:
                drawn = then[1] / now[1] * math.sqrt(1 - (now[0] / then[0]) ** 2)
                kept = math.sqrt(then[1] ** 2 - drawn**2)
                fresh = generator(*key, "step", index).standard_normal(target.shape, np.float32)
                noisy = then[0] * clean + kept * ((noisy - now[0] * clean) / now[1]) + drawn * fresh
            else:  # DPM-Solver++ 2M
                ratios = [math.log(signal / noise) for signal, noise in (before, now, then)]
                later = ratios[2] - ratios[1]
                change = 0 if previous is None else (clean - previous) * (later / (2 * (ratios[1] - ratios[0])))
                noisy = then[1] / now[1] * noisy - then[0] * math.expm1(-later) * (clean + change)
    return nets["finish"](half, clean, strength)[0][0]


def scaled(picture):
    """A Pillow picture, scaled so that its shorter side has 512 pixels, with its longer side cut to a multiple of 128."""
    ratio = 512 / min(picture.size)
    picture = picture.convert("RGB").resize([round(side * ratio) for side in picture.size], Image.Resampling.LANCZOS)
    return np.asarray(picture.crop((0, 0, *(side - side % 128 for side in picture.size))))


if __name__ == "__main__":
    folder, source, target = sys.argv[1:]
    Image.fromarray(grow(scaled(Image.open(source)), *load(folder))).save(target)
