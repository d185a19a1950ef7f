"""KID, Frechet distance, precision and recall, against closed forms; and the network, if its packages are installed."""
import sys

import numpy as np
import pytest

from metrics.perceptual import BATCH, frechet, kid, load_features, precision_recall
from utilities import UserError


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_kid_of_two_and_two_vectors():
    first, second = np.eye(2), np.array([[2.0, 0], [0, 0]])
    # (x y / 2 + 1)^3 is 1 in both sets; between them once 2^3 and three times 1.
    assert kid(first, second) == pytest.approx(1000 * (1 + 1 - 2 * (8 + 1 + 1 + 1) / 4))


def test_kid_has_no_bias():
    same = [kid(normal(40, 4, seed=seed), normal(60, 4, seed=100 + seed)) for seed in range(200)]
    assert abs(np.mean(same)) < 20
    assert min(same) < 0
    assert kid(normal(40, 4) + 1, normal(60, 4, seed=1)) > 1000


def test_frechet_of_normal_distributions():
    first = normal(60_000, 3)
    second = normal(60_000, 3, seed=1) * [1, 2, 3] + [2, 0, 0]
    assert frechet(first, first) == pytest.approx(0, abs=1e-9)
    assert frechet(first, second) == pytest.approx(2**2 + 1**2 + 2**2, rel=0.02)
    mixed = first @ np.linalg.qr(normal(3, 3, seed=2))[0]
    assert frechet(mixed, first) == pytest.approx(0, abs=1e-2)


def test_frechet_uses_the_principal_axes_of_the_second_set():
    second = normal(1000, 3) * [5, 3, 0.1]
    aside = second + [0, 0, 7]
    assert frechet(aside, second, axes=2) == pytest.approx(0, abs=0.1)
    assert frechet(aside, second, axes=3) == pytest.approx(49, rel=0.01)


def test_frechet_of_fewer_pictures_than_axes():
    first, second = normal(5, 80), normal(6, 80, seed=1)
    assert frechet(second, second) == pytest.approx(0, abs=1e-4)
    assert frechet(first, second) > 10


def test_precision_and_recall_on_a_line():
    second = np.array([[0.0], [1], [2], [3]])  # each reaches as far as 1
    first = np.array([[0.5], [10], [11], [12]])  # the first of them reaches as far as 9.5
    assert precision_recall(first, second, neighbours=1) == (0.25, 1)
    assert precision_recall(second, first, neighbours=1) == (1, 0.25)
    assert precision_recall(second, second) == (1, 1)


def test_without_its_packages_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match="pip install -r requirements-evaluate.txt") as caught:
        load_features()
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("network")
def test_the_network_separates_skies_from_noise(skies):
    features = load_features(threads=1)
    pictures = skies(2 * BATCH + 2, 64)
    seen = features(pictures)
    assert seen.shape == (len(pictures), 1280)
    assert seen.dtype == np.float64
    assert seen[-1:] == pytest.approx(features(pictures[-1:]), abs=1e-4), "a result depends on its own picture only"
    noise = np.random.default_rng(0).permuted(pictures.reshape(len(pictures), -1, 3), axis=1).reshape(pictures.shape)
    first, second = seen[::2], seen[1::2]
    unlike = features(noise)[::2]
    assert kid(unlike, second) > 10 * abs(kid(first, second))
    assert frechet(unlike, second) > 2 * frechet(first, second)
    assert precision_recall(unlike, second)[0] < precision_recall(first, second)[0]
