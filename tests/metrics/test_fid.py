"""FID: its value on all axes, its bias, and what the network sees of a folder's pictures."""
import numpy as np
import pytest
from PIL import Image

from metrics.fid import INCEPTION_SIDE, features_of, fid_scores, inception_features, named_files
from metrics.perceptual import frechet
from networks.backend import keras
from utilities import UserError


def normal(count, seed=0, axes=6):
    return np.random.default_rng(seed).normal(size=(count, axes)) * np.arange(1, axes + 1)


def test_fid_counts_all_axes():
    second = normal(500, axes=100)
    aside = second + [*[0] * 99, 3]
    assert fid_scores(aside, second)["fid"] == pytest.approx(9)
    assert fid_scores(second[:, ::-1], second)["fid"] > 10 * frechet(second[:, ::-1], second, axes=1)


def test_the_extrapolated_fid_has_less_bias_and_halves_show_it():
    pairs = [(normal(60, seed), normal(90, 100 + seed) + 1) for seed in range(40)]
    scores = [fid_scores(*pair) for pair in pairs]
    mean = {name: np.mean([each[name] for each in scores]) for name in scores[0]}
    true = 6
    assert mean["fid"] > true + 1
    assert abs(mean["fid, extrapolated"] - true) < 0.3 * (mean["fid"] - true)
    halves = [frechet(normal(45, seed), normal(45, 100 + seed), axes=None) for seed in range(40)]
    assert mean["fid of halves"] == pytest.approx(np.mean(halves), rel=0.15)


@pytest.mark.parametrize(("counts", "names"), [
    ((2, 2), ["fid"]), ((2, 4), ["fid", "fid of halves"]), ((4, 5), ["fid", "fid, extrapolated", "fid of halves"])])
def test_what_needs_more_pictures_is_left_out(counts, names):
    scores = fid_scores(normal(counts[0]), normal(counts[1], 1))
    assert list(scores) == names
    assert np.isfinite(list(scores.values())).all()


def test_pictures_of_any_size_are_seen_as_squares_without_aliasing(tmp_path, capsys):
    fine = np.zeros((96, 64, 3), np.uint8)
    fine[::2] = 255  # stripes that sampling without a filter would see as black or white
    for name, pixels in (("a", fine), ("b", np.full((16, 8, 3), 40, np.uint8)), ("c", fine)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    seen = []

    def features(pictures):
        seen.extend(pictures)
        return pictures.mean(axis=(1, 2))

    found = features_of("my", named_files(str(tmp_path)), 32, features)
    assert [picture.shape for picture in seen] == [(32, 32, 3)] * 3
    assert np.abs(found - [[127.5], [40], [127.5]]).max() < 1
    assert "broken.jpg" in capsys.readouterr().err


def test_a_pattern_names_results(tmp_path):
    for name in ("sky_source.png", "sky_0_filled.png", "sky_1_filled.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "sky_0.json").write_text("{}")
    assert [file.name for file in named_files(f"{tmp_path}/*_filled.png")] == ["sky_0_filled.png", "sky_1_filled.png"]
    with pytest.raises(UserError, match="gives 0 pictures"):
        named_files(f"{tmp_path}/*_4x.png")


def test_inception_sees_what_keras_shows_it(tmp_path, skies):
    keras.utils.set_random_seed(0)
    network = keras.applications.InceptionV3(include_top=False, weights=None, pooling="avg")
    file = tmp_path / "inception.weights.h5"
    network.save_weights(file)
    pictures = skies(2, INCEPTION_SIDE)
    expected = network(keras.applications.inception_v3.preprocess_input(pictures.astype(np.float32)))
    found = inception_features(file)(pictures)
    assert found.shape == (2, 2048)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["none.h5", "damaged.h5", "other.weights.h5"])
def test_wrong_weights_are_refused_in_one_sentence(tmp_path, name):
    (tmp_path / "damaged.h5").write_bytes(b"not weights")
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(UserError, match=name) as caught:
        inception_features(tmp_path / name)
    assert "\n" not in str(caught.value)
