"""The discriminator, its loss, and training against it."""
import json

import numpy as np
import pytest

from networks.backend import keras, ops
from networks.discriminator import PATCH, AdversarialTokenizer, Discriminator, discriminator_loss
from tokenizer import Tokenizer, load_tokenizer
from utilities import save_picture

CONFIG = {"style": "local", "filters": [8, 8, 8], "blocks": 1, "codes": 16, "code_size": 4, "quantizer": "ema",
          "downscale": 8}


@pytest.fixture
def discriminator():
    keras.utils.set_random_seed(0)
    layer = Discriminator()
    layer.build()
    return layer


def test_the_receptive_field_is_a_patch(discriminator):
    pictures = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype(np.float32)
    answers = np.asarray(discriminator(pictures))
    assert answers.shape == (1, 16, 16, 1)
    pictures[0, 30, 33] += 1
    rows, columns = np.nonzero((np.asarray(discriminator(pictures)) != answers)[0, :, :, 0])
    for places in (rows, columns):
        assert 4 * (places.max() - places.min() + 1) <= PATCH + 3
        assert places.min() <= 30 // 4 <= places.max() + 1


def test_the_hinge_loss():
    real, fake = np.array([2.0, 0.5, -1.0]), np.array([-3.0, -0.5, 1.0])
    assert float(discriminator_loss(real, fake)) == pytest.approx((0 + 0.5 + 2) / 3 + (0 + 0.5 + 2) / 3)


def test_gradients_reach_either_the_weights_or_the_pictures_alone(discriminator):
    import tensorflow as tf

    pictures = tf.Variable(np.random.default_rng(0).normal(size=(1, 16, 16, 3)).astype(np.float32))
    weights = discriminator.trainable_variables
    with tf.GradientTape() as tape:
        loss = ops.sum(discriminator(pictures, learns=False))
    of_pictures, *of_weights = tape.gradient(loss, [pictures, *(each.value for each in weights)])
    assert np.abs(of_pictures).max() > 0
    assert of_weights == [None] * len(weights)


def test_the_discriminators_weight_grows_over_the_first_quarter():
    keras.utils.set_random_seed(0)
    tokenizer = Tokenizer(CONFIG)
    model = AdversarialTokenizer(tokenizer, 0.5, images=32)
    pictures = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.uint8)
    fake = tokenizer(pictures)
    opinion = float(ops.mean(model.discriminator(2 * fake - 1)))
    learned = float(discriminator_loss(model.discriminator(pictures / np.float32(127.5) - 1),
                                       model.discriminator(2 * fake - 1)))
    plain = float(tokenizer.reconstruction_loss(pictures, fake))
    for strength in (0.25, 0.5, 0.5):
        assert float(model.compute_loss(x=pictures, y_pred=fake)) == pytest.approx(plain + learned - strength * opinion,
                                                                                  rel=1e-4)


def test_a_decoder_trained_alone_keeps_the_tokens_and_fits_their_models(trained, skies):
    trained.tiny("tokenizer", "--run_name", "textured", "--start_from", "tiny", "--decoder_only", "--adversarial", 0.1)
    models = trained.folder / "models"
    old, old_config, _ = load_tokenizer(folder=models / "tokenizer_tiny")
    new, config, _ = load_tokenizer(folder=models / "tokenizer_textured")
    pictures = skies(4, 64, seed=3)
    tokens = np.asarray(old.encode(pictures))
    assert np.array_equal(new.encode(pictures), tokens)
    assert np.abs(np.asarray(new.decode(tokens)) - np.asarray(old.decode(tokens))).max() > 1e-4
    assert config["same_tokens_as"] == [old_config["fingerprint"]]
    last = json.loads((trained.folder / "runs/tokenizer_textured/stats.jsonl").read_text().splitlines()[-1])
    assert 0 <= last["deceived"] <= 1
    options = ("outpainting.py", "--input", "sky.png", "--tokenizer_run", "textured", "--maskgit_run", "tiny",
               "--img_size", 64, "--wandb", "disabled")
    save_picture(trained.folder / "sky.png", pictures[0])
    trained.run(*options, "--sharpen_run", "tiny", "--diffusion_steps", 2)


def test_a_decoder_alone_needs_something_to_start_from(workshop):
    assert "--decoder_only needs --start_from" in workshop.tiny("tokenizer", "--decoder_only", status=2)


COMMITTED = """
import numpy as np
from networks import discriminator
from tokenizer import Tokenizer

discriminator.discriminator_loss = lambda real, fake: 0.0
pictures = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
config = {"style": "local", "filters": [8, 8, 8], "blocks": 1, "codes": 16, "code_size": 4, "quantizer": "ema",
          "downscale": 8}
tokenizer = Tokenizer(config)
tokenizer.quantizer.codebook.assign(100 + tokenizer.quantizer.codebook)
tokenizer.quantizer.images.assign(100)
model = discriminator.AdversarialTokenizer(tokenizer, 1e-9, images=32)
model.compile(optimizer="sgd")
print(np.ravel(model.train_on_batch(pictures))[0])
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_the_quantizers_loss_is_added_to_the_discriminators(workshop, backend):
    """Under JAX only the outermost model gets the losses of layers."""
    environment = workshop.jax() if backend == "jax" else {"KERAS_BACKEND": backend}
    assert float(workshop.run("-c", COMMITTED, **environment).splitlines()[-1]) > 1000
