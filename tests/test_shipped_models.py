"""Quality of the shipped models: fails for wrong or damaged weights.

The photographs are the samples in outpaint/ at half their size or less, where they have no traces of JPEG.
"""
import cv2
import numpy as np
import pytest

from archive.pictures import read_picture
from decoding.colours import colour_map
from decoding.inpainter import FILLING, Inpainter
from decoding.super_sampling import add_octave
from decoding.token_decoding import log_softmax
from diffusion_model_upscale import load_super_sampler
from log_and_save import model_folder
from maskgit import hidden_scores, load_maskgit
from metrics.inpainting import hidden_log_probabilities
from metrics.perceptual import load_features
from metrics.pictures import octave_strengths, psnr, streaks
from networks.backend import compiled
from simulator.sky import SCENES, draw_sky
from tokenizer import load_tokenizer, reconstruct
from training.masks import dev_masks
from utilities import ROOT, to_bytes


def smaller(picture, times):
    return cv2.resize(picture, None, fx=1 / times, fy=1 / times, interpolation=cv2.INTER_AREA)


@pytest.fixture(scope="module")
def photographs():
    """The samples, float32 [h, w, 3] in [0, 1]: 512 rows and 768 columns of each at most."""
    return [read_picture(path)[:512, :768] / np.float32(255) for path in sorted((ROOT / "outpaint").glob("*.jpg"))]


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer()


@pytest.fixture(scope="module")
def pairs(photographs, tokenizer):
    """[(half, true, made)], float32 [h, w, 3] and twice [2h, 2w, 3]: an octave of each sample, generated from the half
    alone."""
    sampler, _ = load_super_sampler(*tokenizer[1:])
    prepare, estimate = (compiled(sampler, each, any_size=True) for each in (sampler.prepare, sampler.estimate))
    found = []
    for photograph in photographs:
        true = smaller(photograph, 2)
        true = true[:true.shape[0] // 32 * 32, :true.shape[1] // 32 * 32]
        half = smaller(true, 2)
        found.append((half, true, add_octave(half, None, prepare, estimate, 12, 0)))
    return found


def test_the_tokenizer_reconstructs_drawn_skies(tokenizer):
    skies = np.stack([to_bytes(draw_sky(kind, 128, 128, seed=0)) for kind in SCENES])
    reconstructed, _ = reconstruct(tokenizer[0], skies)
    assert psnr(reconstructed, skies).mean() > 26  # decibels


def test_the_autoregressive_transformer_predicts_hidden_tokens_of_photographs(photographs):
    inpainter = Inpainter([model_folder(kind) for kind in ("tokenizer", "maskgit", "sharpen")], "float32")
    inpainter.use_autoregressive(model_folder("autoregressive"))
    hole = np.zeros((160, 160), bool)
    hole[48:112, 48:112] = True
    losses = [hidden_log_probabilities(inpainter, to_bytes(smaller(photograph, 2)[:160, :160]), hole, FILLING)[0]
              for photograph in photographs]
    assert -np.mean(losses) < 4  # nats; 3.54 with the right weights


def test_maskgit_predicts_hidden_tokens_of_photographs(photographs, tokenizer):
    crops = np.stack([to_bytes(smaller(photograph, 4)[:128, :128]) for photograph in photographs])
    crops = np.stack([colour_map(crop).normalised(crop) for crop in crops])
    tokens = np.asarray(tokenizer[0].encode(crops))
    maskgit, _ = load_maskgit(*tokenizer[1:])
    hidden = dev_masks(len(tokens), tokens.shape[1])
    logits = np.asarray(maskgit(np.where(hidden, maskgit.mask_token, tokens).astype(np.int32)))
    loss, accuracy = hidden_scores(log_softmax(logits), tokens, hidden)
    assert loss < 5  # nats; the frequencies of tokens alone give 5.5
    assert accuracy > 0.05


@pytest.mark.usefixtures("network")
def test_the_octave_looks_like_the_true_one(pairs):
    features = load_features(threads=1)
    distances = []
    for half, true, made in pairs:
        bicubic = cv2.resize(half, true.shape[1::-1], interpolation=cv2.INTER_CUBIC)
        found = features(to_bytes(np.stack([true, made, bicubic])))
        distances.append(np.linalg.norm(found[1:] - found[0], axis=1))
    of_octave, of_bicubic = np.mean(distances, axis=0)
    assert of_octave < 0.6 * of_bicubic


def test_the_octave_has_the_contrast_of_the_true_one(pairs):
    true, made = (octave_strengths([to_bytes(pair[which]) for pair in pairs], 1) for which in (1, 2))
    assert 0.5 < made[0] / true[0] < 1.2


def test_there_is_no_tint(pairs):
    for half, _, made in pairs:
        difference = smaller(made, 16) - smaller(half, 8)
        assert np.abs(difference.mean(axis=(0, 1))).max() < 1 / 255
        assert np.abs(difference).mean() < 1 / 255


def test_a_flat_sky_stays_flat(pairs):
    """In the flattest twentieth of the photographs, the finest details are not much stronger."""
    def details(picture):
        return smaller((picture - cv2.resize(smaller(picture, 2), picture.shape[1::-1], interpolation=cv2.INTER_CUBIC))
                       ** 2, 8).mean(axis=-1).ravel()

    true, made = (np.concatenate([details(pair[which]) for pair in pairs]) for which in (1, 2))
    flattest = true <= np.quantile(true, 0.05)
    assert np.sqrt(made[flattest].mean() + 0.3**2 / 255**2) < 1.2 * np.sqrt(true[flattest].mean() + 0.3**2 / 255**2)


def test_there_are_no_streaks(pairs):
    true, made = (streaks([to_bytes(pair[which]) for pair in pairs]) for which in (1, 2))
    assert (made < 1.15 * true).all()
