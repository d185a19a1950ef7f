"""The codebook and the losses of the tokenizer, each against a formula in NumPy."""
import numpy as np
import pytest

from metrics.pictures import psnr
from networks.backend import keras, ops
from tokenizer import FiniteScalarQuantizer, Tokenizer, VectorQuantizer, make_report, reconstruct

CONFIG = {"style": "local", "filters": [8, 8, 8], "blocks": 1, "codes": 16, "code_size": 4, "quantizer": "ema",
          "downscale": 8}


def quantizer(codebook, kind="ema", free_images=0):
    codebook = np.asarray(codebook, np.float32)
    layer = VectorQuantizer(*codebook.shape, kind=kind, free_images=free_images)
    layer.build((None, None, None, codebook.shape[1]))
    layer.codebook.assign(codebook)
    return layer


def vectors(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# ---------------------------------------------------------------------------------------------------------------------
# Codebook


def test_each_vector_gets_its_nearest_code():
    codebook, z = vectors(40, 6), vectors(2, 5, 7, 6, seed=1)
    layer = quantizer(codebook)
    nearest = ((z[..., None, :] - codebook) ** 2).sum(-1).argmin(-1)
    tokens = np.asarray(layer.tokens(z))
    assert tokens.dtype == np.int32
    assert np.array_equal(tokens, nearest)
    assert np.array_equal(layer(z), codebook[nearest])


def test_codes_are_their_own_tokens():
    layer = quantizer(vectors(40, 6))
    tokens = np.arange(40).reshape(2, 4, 5)
    assert np.array_equal(layer.tokens(layer.vectors(tokens)), tokens)


def test_codes_are_moving_averages_of_their_vectors():
    start = np.array([[0, 0], [10, 0], [0, 10]], np.float32)
    layer = quantizer(start)
    codebook, usage = start.astype(np.float64), np.full(3, 20.0)
    layer.usage.assign(usage)
    for step in range(5):
        z = start[np.arange(60) % 3] + vectors(60, 2, seed=step) + 0.3
        nearest = ((z[:, None] - codebook) ** 2).sum(-1).argmin(-1)
        count = np.bincount(nearest, minlength=3)
        total = np.stack([z[nearest == code].sum(axis=0) for code in range(3)])
        new = 0.99 * usage + 0.01 * count
        codebook = (0.99 * usage[:, None] * codebook + 0.01 * total) / new[:, None]
        usage = new
        layer(z.reshape(1, 6, 10, 2), training=True)
        assert np.allclose(layer.codebook, codebook, atol=1e-4)
        assert np.allclose(layer.usage, usage)


def test_unused_codes_are_used_again():
    """Sixteen codes far from the data, which have fifty clusters."""
    centres = 5 * vectors(50, 4)
    layer = quantizer(100 + vectors(16, 4, seed=1))
    rng = np.random.default_rng(0)
    for _ in range(40):
        z = (centres[rng.integers(0, 50, 256)] + 0.1 * rng.normal(size=(256, 4))).astype(np.float32)
        layer(z.reshape(4, 8, 8, 4), training=True)
    tokens = np.asarray(layer.tokens(z))
    assert len(np.unique(tokens)) == 16
    assert ((z - np.asarray(layer.vectors(tokens))) ** 2).mean() < 0.5 * z.var()


def test_using_the_codebook_does_not_change_it():
    layer = quantizer(vectors(16, 4))
    before = [np.asarray(variable) for variable in layer.variables]
    layer(vectors(2, 4, 4, 4, seed=1))
    layer.tokens(vectors(2, 4, 4, 4, seed=1))
    assert all(np.array_equal(*pair) for pair in zip(before, layer.variables, strict=True))


def test_quantisation_fades_in_after_the_free_images():
    codebook = np.array([[0, 0], [100, 100]], np.float32)
    layer = quantizer(codebook, free_images=8)
    z = 20 * vectors(4, 3, 3, 2)
    moved = []
    for _ in range(5):
        layer.codebook.assign(codebook)
        moved.append(float(np.abs(np.asarray(layer(z, training=True)) - z).max()))
        used = np.asarray(layer.tokens(z))
    # Images 0, 4 and 8 are free; it takes a quarter of the free images, and one more, to fade in.
    assert moved[:3] == [0, 0, 0]
    assert moved[4] == pytest.approx(float(np.abs(codebook[used] - z).max()), rel=1e-5)
    assert moved[3] == pytest.approx(moved[4])
    assert len(layer.losses) == 1


def test_gradients_pass_the_quantiser_unchanged():
    import tensorflow as tf

    weights = vectors(1, 3, 3, 4, seed=2)
    for kind in ("ema", "gradient"):
        layer = quantizer(vectors(16, 4), kind)
        z = tf.Variable(vectors(1, 3, 3, 4, seed=1))
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(z, training=True) * weights)
        assert np.allclose(tape.gradient(loss, z), weights, atol=1e-6)


def test_scalars_are_rounded_to_their_levels():
    layer = FiniteScalarQuantizer([3, 2])
    z = np.array([[-9, -9], [0, -0.1], [0.1, 0.1], [9, 9]], np.float32)
    assert np.allclose(layer(z), [[-1, -1], [0, -1], [0, 1], [1, 1]])
    assert np.array_equal(layer.tokens(z), [0, 1, 4, 5])
    assert np.array_equal(layer.vectors(layer.tokens(z)), layer(z))
    assert len(np.unique(layer.codebook, axis=0)) == 6


def test_gradients_pass_the_rounding_of_scalars():
    import tensorflow as tf

    z = tf.Variable(vectors(1, 3, 3, 2))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(FiniteScalarQuantizer([5, 8])(z, training=True))
    assert np.allclose(tape.gradient(loss, z), 1 - np.tanh(z) ** 2, atol=1e-5)


def test_a_tokenizer_of_scalars_trains_and_names_its_tokens(skies):
    keras.utils.set_random_seed(0)
    model, pictures = Tokenizer({**CONFIG, "quantizer": "fsq", "levels": [4, 4], "code_size": 2}), skies(4, 64)
    model.compile(optimizer=keras.optimizers.Adam(3e-3))
    losses = model.fit(pictures, epochs=12, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]
    tokens = np.asarray(model.encode(pictures))
    assert tokens.max() < 16
    assert np.allclose(ops.clip(model(pictures), 0, 1), model.decode(tokens), atol=1e-6)


# ---------------------------------------------------------------------------------------------------------------------
# Losses


def test_the_loss_of_the_thesis():
    """alpha |sg(z) - e|^2 + beta |z - sg(e)|^2 + gamma * mean over unused codes of their distance to the nearest z."""
    codebook = np.array([[0, 0], [4, 0], [0, 9], [7, 7]], np.float32)
    z = np.array([[1, 0], [0, 2], [4, 1]], np.float32).reshape(1, 1, 3, 2)  # codes 0, 0 and 1: 2 and 3 are unused
    layer = quantizer(codebook, "gradient")
    layer(z, training=True)
    distance = np.mean([1, 0, 0, 4, 0, 1])
    unused = np.mean([0 + 49, 9 + 36])
    assert float(sum(layer.losses)) == pytest.approx(1.0 * distance + 0.25 * distance + 0.01 * unused, rel=1e-5)


def test_the_loss_of_the_thesis_moves_each_side_by_its_own_term():
    import tensorflow as tf

    codebook = np.array([[0, 0], [4, 0], [0, 9]], np.float32)
    layer = quantizer(codebook, "gradient")
    z = tf.Variable(np.array([[1, 0], [4, 1]], np.float32).reshape(1, 1, 2, 2))
    with tf.GradientTape() as tape:
        layer(z, training=True)
        loss = tf.add_n(layer.losses)
    of_z, of_codes = tape.gradient(loss, [z, layer.codebook.value])
    assert np.allclose(np.reshape(of_z, (2, 2)), 0.25 * 2 / 4 * np.array([[1, 0], [0, 1]]), atol=1e-6)
    of_codes = tf.convert_to_tensor(of_codes)
    assert np.allclose(of_codes[:2], 2 / 4 * np.array([[-1, 0], [0, -1]]), atol=1e-6)
    # The unused code is pulled towards its nearest vector and no other.
    assert np.allclose(of_codes[2] / np.linalg.norm(of_codes[2]), np.array([-4, 8]) / 80**0.5, atol=1e-5)


def test_the_reconstruction_losses():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (2, 8, 8, 3)).astype(np.uint8)
    y = rng.random((2, 8, 8, 3), np.float32)
    difference = y - x / 255
    thesis = Tokenizer({**CONFIG, "style": "thesis", "quantizer": "gradient"}, pixel_variance=0.05)
    assert float(thesis.compute_loss(x=x, y_pred=y)) == pytest.approx((difference**2).mean() / 0.05, rel=1e-5)
    local = Tokenizer(CONFIG)
    averaged = [difference.reshape(2, 8 // size, size, 8 // size, size, 3).mean(axis=(2, 4)) for size in (2, 4)]
    expected = 2 * np.abs(difference).mean() + 10 * (difference**2).mean() + sum(np.abs(a).mean() for a in averaged)
    assert float(local.compute_loss(x=x, y_pred=y)) == pytest.approx(expected, rel=1e-5)


# ---------------------------------------------------------------------------------------------------------------------
# Model


def test_a_report_measures_the_pictures_as_they_are_decoded(skies):
    keras.utils.set_random_seed(0)
    model, pictures = Tokenizer(CONFIG), skies(3, 64)
    decoded, tokens = reconstruct(model, pictures, batch_size=2)
    assert decoded.shape == pictures.shape
    assert tokens.shape == (3, 8, 8)
    assert np.array_equal(tokens, model.encode(pictures))
    numbers, shown = make_report(model, pictures)()
    assert numbers["psnr"] == pytest.approx(psnr(decoded, pictures).mean())
    assert numbers["codes_used"] == len(np.unique(tokens)) / 16
    assert np.array_equal(shown["reconstructions"][66:130, 66:130], decoded[1])


def test_a_model_is_called_on_bytes_and_gives_what_encode_and_decode_give(skies):
    model, pictures = Tokenizer(CONFIG), skies(2, 64)
    assert np.allclose(ops.clip(model(pictures), 0, 1), model.decode(model.encode(pictures)), atol=1e-6)
