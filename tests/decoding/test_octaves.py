"""Octaves of pictures and of a canvas, with functions in place of the network, or with the untrained network."""
import numpy as np
import pytest

from decoding import octaves, super_sampling
from decoding.super_sampling import add_octave, cut, octave_bands
from diffusion_model_upscale import OctaveSampler, known_regions, octave_batches


def pictures(count, height, width, seed=0):
    """float32 [count, height, width, 3] in [0, 1]: smooth on the left, with noise of all scales on the right."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 32
    smooth = 0.5 + 0.2 * np.sin(y)[..., None] * np.cos(x)[..., None] * [1, 0.8, 0.5]
    rough = sum(rng.normal(0, 0.05, (count, height // size, width // size, 3)).repeat(size, 1).repeat(size, 2)
                for size in (1, 2, 4, 8)) * (x > x.mean())[..., None]
    return np.clip(smooth + rough, 0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def model():
    return OctaveSampler({"style": "octaves", "filters": [8, 8, 8], "blocks": [1, 1, 1], "schedule": "wide",
                          "decoded": 0.5, "noise": 0.5})


def test_colours_and_squares_come_back():
    picture = pictures(2, 16, 24)
    np.testing.assert_allclose(octaves.rgb(octaves.yuv(picture)), picture, atol=1e-6)
    np.testing.assert_array_equal(octaves.from_squares(octaves.to_squares(picture)), picture)
    red, green, blue = picture[0, 3, 4]
    np.testing.assert_allclose(np.asarray(octaves.yuv(picture))[0, 3, 4],
                               [(red + green + blue) / 3, red - blue, green - (red + blue) / 2], atol=1e-6)


def test_enlarging_keeps_straight_lines_and_halving_undoes_it():
    line = np.broadcast_to(np.arange(12, dtype=np.float32)[:, None, None], (1, 12, 8, 3))
    large = np.asarray(octaves.enlarge(line))
    assert large.shape == (1, 24, 16, 3)
    np.testing.assert_allclose(large[0, 4:-4, 5, 0], np.arange(4, 20) / 2 - 0.25, atol=1e-5)
    np.testing.assert_allclose(np.asarray(octaves.halve(large))[0, 2:-2], line[0, 2:-2], atol=1e-5)
    assert np.abs(np.asarray(octaves.enlarge(np.ones((1, 8, 8, 1), np.float32))) - 1).max() < 1e-6


def test_a_picture_is_its_half_and_its_octave():
    picture = np.asarray(octaves.yuv(pictures(2, 32, 48)))
    half = np.asarray(octaves.halve(picture))
    strength = np.random.default_rng(0).uniform(0.01, 1, half.shape).astype(np.float32)
    octave = octaves.octave_of(picture, half, strength)
    assert octave.shape == (2, 16, 24, 12)
    np.testing.assert_allclose(octaves.with_octave(half, octave, strength), picture, atol=1e-6)


def test_expected_strength_follows_structure_and_ignores_blur():
    half = np.asarray(octaves.yuv(pictures(1, 64, 64)))
    expected = np.exp(octaves.expected_strength(octaves.strengths(half)))[0, ..., 0]
    assert expected[:, 40:].mean() > 5 * expected[:, :24].mean()
    blurred = np.exp(octaves.expected_strength(octaves.strengths(octaves.blur(half))))[0, ..., 0]
    assert blurred[:, 40:].mean() > 0.25 * expected[:, 40:].mean()


@pytest.mark.parametrize("known", [None, "middle", "edge"])
def test_known_pixels_are_kept(model, known):
    picture = pictures(1, 64, 96)[0]
    half = pictures(1, 32, 48, seed=1)[0]
    top, left = {None: (0, 0), "middle": (16, 24), "edge": (0, 60)}[known]
    part = picture[top:top + 33, left:left + 36]
    result = add_octave(half, known and (part, top, left), model.prepare, model.estimate, 3, 0)
    assert result.shape == picture.shape
    assert np.isfinite(result).all()
    if known:
        inside = slice(top, top + 32), slice(left, left + 36)
        np.testing.assert_allclose(result[inside], part[:32], atol=2e-6)
        without = add_octave(half, None, model.prepare, model.estimate, 3, 0)
        assert np.abs(result[inside] - without[inside]).max() > 0.01


def trained_enough(model, seed=0):
    """The same model with random weights, because the initial ones give an octave of zero."""
    rng = np.random.default_rng(seed)
    for variable in model.network.trainable_variables:
        variable.assign(rng.normal(0, 0.1, variable.shape))
    return model


@pytest.mark.parametrize(("solver", "known"), [("dpm", None), ("ancestral", (slice(100, 301), slice(20, 81)))])
def test_bands_and_tiles_give_what_the_whole_gives(model, monkeypatch, solver, known):
    half, picture = pictures(1, 328, 72)[0], pictures(1, 656, 144, seed=1)[0]
    known = known and (picture[known], known[0].start, known[1].start)
    trained_enough(model)
    whole = add_octave(half, known, model.prepare, model.estimate, 4, 0, solver)
    for name, size in {"BAND": 96, "LEAST_BAND": 48, "TILE": 48}.items():
        monkeypatch.setattr(super_sampling, name, size)
    bands = list(octave_bands(half, known, model.prepare, model.estimate, 4, 0, solver))
    assert len(bands) == 4
    np.testing.assert_allclose(np.concatenate(bands), whole, atol=1e-5)
    if known:
        np.testing.assert_allclose(whole[100:300, 20:80], picture[100:300, 20:80], atol=2e-6)


def test_a_picture_that_closes_is_the_middle_of_its_repetitions(model, monkeypatch):
    """The noise is repeated like the picture."""
    class Repeated(np.random.Generator):
        def __init__(self, seed):
            super().__init__(np.random.PCG64(seed))

        def standard_normal(self, shape, dtype):
            noise = super().standard_normal((*shape[:2], 48, shape[3]), dtype)
            return np.tile(noise, (1, 1, shape[2] // 48, 1))

    monkeypatch.setattr(np.random, "default_rng", Repeated)
    for name in ("BAND", "LEAST_BAND", "TILE"):
        monkeypatch.setattr(super_sampling, name, 24)
    half, picture = pictures(1, 32, 48)[0], np.full((64, 96, 3), np.nan, np.float32)
    picture[20:50, :36] = pictures(1, 64, 96, seed=1)[0, 20:50, :36]
    trained_enough(model)
    once, often = (add_octave(np.tile(half, (1, count, 1)), (np.tile(picture, (1, count, 1)), 0, 0), model.prepare,
                               model.estimate, 2, 0, wrap=count == 1) for count in (1, 5))
    np.testing.assert_allclose(once, often[:, 2 * 96:3 * 96], atol=1e-5)
    apart = add_octave(half, (picture, 0, 0), model.prepare, model.estimate, 2, 0)
    assert np.abs(once - apart).max() > 0.01


def test_a_seed_gives_one_picture(model):
    half = pictures(1, 96, 128)[0]
    trained_enough(model)
    first, again, other = (add_octave(half, None, model.prepare, model.estimate, 2, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).mean() > 1e-4


def test_few_bands_are_in_memory(model, monkeypatch):
    """Upper bands are finished before those far below begin."""
    for name in ("BAND", "LEAST_BAND"):
        monkeypatch.setattr(super_sampling, name, 48)
    begun = []

    def prepare(half, picture, known):
        begun.append(len(begun))
        return model.prepare(half, picture, known)

    half = pictures(1, 480, 16)[0]
    bands = octave_bands(half, None, prepare, model.estimate, 3, 0)
    waiting = [len(begun) - number for number, _ in enumerate(bands, start=1)]
    assert len(waiting) == len(begun) == 10
    assert max(waiting) == 3


def test_known_tiles_need_no_calls(model, monkeypatch):
    for name in ("BAND", "LEAST_BAND", "TILE"):
        monkeypatch.setattr(super_sampling, name, 16)
    calls = []

    def estimate(condition, noisy, time):
        calls.append(noisy.shape)
        return model.estimate(condition, noisy, time)

    picture = pictures(1, 64, 64)[0]
    add_octave(pictures(1, 32, 32)[0], (picture[:32], 0, 0), model.prepare, estimate, 2, 0)
    assert len(calls) == 2 * 2


def test_progress_counts_the_steps_of_all_bands(model, monkeypatch):
    for name in ("BAND", "LEAST_BAND"):
        monkeypatch.setattr(super_sampling, name, 16)
    counted = []

    def progress(steps):
        for step in steps:
            yield step
            counted.append(step)

    add_octave(pictures(1, 64, 32)[0], None, model.prepare, model.estimate, 2, 0, progress=progress)
    assert counted == list(range(2 * 4))


@pytest.mark.parametrize(("length", "size"), [(8, 512), (1032, 512), (1000, 96), (9608, 96)])
def test_slices_cover_a_length(length, size):
    slices = cut(length, size)
    assert [part.start for part in slices] == [0, *(part.stop for part in slices[:-1])]
    assert slices[-1].stop == length
    assert all(part.start % 8 == 0 and 0 < part.stop - part.start <= size for part in slices)


def test_known_regions_are_rectangles_or_their_complements():
    uniform = np.random.default_rng(0).random((400, 6), np.float32)
    known = np.asarray(known_regions(uniform, 24, 24))[..., 0]
    assert set(np.unique(known)) == {0, 1}
    share = known.mean(axis=(1, 2))
    assert 0.15 < (share == 0).mean() < 0.35
    for mask in known[share > 0]:
        kind = mask if mask.mean() < 0.5 or not (1 - mask).any() else 1 - mask
        rows, columns = np.flatnonzero(kind.any(axis=1)), np.flatnonzero(kind.any(axis=0))
        assert kind[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1].all() or (
            (1 - kind)[np.ix_(~kind.all(axis=1), ~kind.all(axis=0))].all())


def test_batches_pair_sharp_pictures_with_decoded_halves():
    class Crops:
        def batches(self, batch_size, seed, start):
            while True:
                yield np.zeros((batch_size, 64, 64, 3), np.uint8)

    sharp = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    quarter = (257 * sharp.reshape(3, 16, 2, 16, 2, 3).mean(axis=(2, 4))).astype(np.uint16)
    batches = octave_batches(Crops(), (sharp, quarter), 16, 0.5, 8, 0, 0)
    decoded = 0
    for _ in range(4):
        pictures, halves, is_decoded = next(batches)
        decoded += is_decoded.sum()
        means = pictures.reshape(8, 8, 2, 8, 2, 3).mean(axis=(2, 4)) / 255
        np.testing.assert_allclose(halves[is_decoded], means[is_decoded], atol=1e-3)
        assert not pictures[~is_decoded].any()
    assert 8 < decoded < 24
    again = octave_batches(Crops(), (sharp, quarter), 16, 0.5, 8, 0, 24)
    for first, second in zip((pictures, halves, is_decoded), next(again), strict=True):
        np.testing.assert_array_equal(first, second)
