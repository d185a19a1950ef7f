"""What the shipped super sampler makes of the halves of real photographs, the samples in outpaint/ at half their size,
where they have no traces of JPEG."""
import cv2
import numpy as np
import pytest

from archive.pictures import read_picture
from decoding.super_sampling import add_octave
from diffusion_model_upscale import load_super_sampler
from log_and_save import load_config, model_folder
from metrics.pictures import octave_strengths, streaks
from networks.backend import compiled
from utilities import ROOT, to_bytes


def smaller(picture, times):
    return cv2.resize(picture, None, fx=1 / times, fy=1 / times, interpolation=cv2.INTER_AREA)


@pytest.fixture(scope="module")
def pairs():
    """[(half, true, made)], float32 [h, w, 3] and twice [2h, 2w, 3]: an octave of each sample, of which nothing but the
    half is known."""
    folders = model_folder("tokenizer", None), model_folder("sharpen", None)
    sampler, _ = load_super_sampler(load_config(folders[0], "tokenizer"), folders[0], folder=folders[1])
    prepare, estimate = (compiled(sampler, each, any_size=True) for each in (sampler.prepare, sampler.estimate))
    found = []
    for path in sorted((ROOT / "outpaint").glob("*.jpg")):
        true = smaller(read_picture(path)[:512, :768] / np.float32(255), 2)
        true = true[:true.shape[0] // 32 * 32, :true.shape[1] // 32 * 32]
        half = smaller(true, 2)
        found.append((half, true, add_octave(half, None, prepare, estimate, 12, 0)))
    return found


def test_the_octave_has_the_contrast_of_the_true_one(pairs):
    true, made = (octave_strengths([to_bytes(pair[which]) for pair in pairs], 1) for which in (1, 2))
    assert 0.5 < made[0] / true[0] < 1.2


def test_there_is_no_tint(pairs):
    for half, _, made in pairs:
        difference = smaller(made, 16) - smaller(half, 8)
        assert np.abs(difference.mean(axis=(0, 1))).max() < 1 / 255
        assert np.abs(difference).mean() < 1 / 255


def test_a_flat_sky_stays_flat(pairs):
    """Where photographs are flattest, in a twentieth of all places, the finest details are hardly stronger."""
    def details(picture):
        return smaller((picture - cv2.resize(smaller(picture, 2), picture.shape[1::-1], interpolation=cv2.INTER_CUBIC))
                       ** 2, 8).mean(axis=-1).ravel()

    true, made = (np.concatenate([details(pair[which]) for pair in pairs]) for which in (1, 2))
    flattest = true <= np.quantile(true, 0.05)
    assert np.sqrt(made[flattest].mean() + 0.3**2 / 255**2) < 1.2 * np.sqrt(true[flattest].mean() + 0.3**2 / 255**2)


def test_there_are_no_streaks(pairs):
    true, made = (streaks([to_bytes(pair[which]) for pair in pairs]) for which in (1, 2))
    assert (made < 1.15 * true).all()
