"""Blocks and networks built from them: exact rearrangement, relative positions, position-local networks, sizes."""
import numpy as np
import pytest

from build_network import DepthToSpace, RotaryAttention, SpaceToDepth, sinusoidal_embedding
from decoding import octaves
from decoding.diffusion import angle
from diffusion_model_upscale import PRESETS as SHARPEN_PRESETS
from diffusion_model_upscale import OctaveSampler, SuperSampler
from maskgit import PRESETS as MASKGIT_PRESETS
from maskgit import MaskGIT
from networks.backend import keras, layers, ops
from tokenizer import PRESETS as TOKENIZER_PRESETS
from tokenizer import Tokenizer

LOCAL = {"style": "local", "filters": [8, 16, 24], "blocks": 1, "codes": 64, "code_size": 4, "quantizer": "ema",
         "downscale": 8}
THESIS = {"style": "thesis", "filters": [8, 16, 24], "blocks": 1, "codes": 64, "code_size": 4, "quantizer": "gradient",
          "downscale": 4}


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# ---------------------------------------------------------------------------------------------------------------------
# Layers


@pytest.mark.parametrize("block", [2, 4])
def test_space_to_depth_puts_each_square_into_the_channels_row_by_row(block):
    x = random(2, 8, 12, 3)
    expected = np.empty((2, 8 // block, 12 // block, 3 * block**2), np.float32)
    for row in range(block):
        for column in range(block):
            place = 3 * (row * block + column)
            expected[..., place:place + 3] = x[:, row::block, column::block]
    deep = np.asarray(SpaceToDepth(block)(x))
    assert np.array_equal(deep, expected)
    assert np.array_equal(DepthToSpace(block)(deep), x)


def test_rearranging_works_on_unknown_shapes():
    inputs = layers.Input((None, 32, 3))
    deep = SpaceToDepth(4)(inputs)
    assert deep.shape == (None, None, 8, 48)
    assert DepthToSpace(4)(deep).shape == (None, None, 32, 3)


@pytest.fixture
def attention():
    """Two heads of eight channels, with an output of the size of its input."""
    layer = RotaryAttention(2)
    layer.build((None, None, None, 16))
    layer.project_out.kernel.assign(random(16, 16))
    return layer


def test_attention_depends_on_differences_of_positions_only(attention, monkeypatch):
    x = random(1, 4, 5, 16)
    here = np.asarray(attention(x))
    turns = attention._turns

    def elsewhere(height, width, dtype):
        """The rotations of a window that starts at row 3 and column 7."""
        parts = (np.asarray(part) for part in turns(height + 3, width + 7, dtype))
        return [part.reshape(1, height + 3, width + 7, 1, -1)[:, 3:, 7:].reshape(1, height * width, 1, -1)
                for part in parts]

    monkeypatch.setattr(attention, "_turns", elsewhere)
    assert np.allclose(attention(x), here, atol=1e-5)
    monkeypatch.setattr(attention, "_turns", lambda *grid: [1.5 * part for part in turns(*grid)])
    assert not np.allclose(attention(x), here, atol=1e-2)


def test_attention_sees_where_tokens_are(attention):
    """Mirroring the first row changes the output of all other rows."""
    x = random(1, 4, 4, 16)
    mirrored = x.copy()
    mirrored[:, 0] = x[:, 0, ::-1]
    assert not np.allclose(attention(mirrored)[:, 1:], attention(x)[:, 1:], atol=1e-2)


def test_noise_levels_have_different_embeddings():
    embedded = np.asarray(sinusoidal_embedding(np.linspace(0, 1, 101, dtype=np.float32)[:, None], 32))
    assert embedded.shape == (101, 32)
    distances = np.linalg.norm(embedded[:, None] - embedded, axis=-1)
    assert distances[~np.eye(101, dtype=bool)].min() > 0.1


# ---------------------------------------------------------------------------------------------------------------------
# Networks


@pytest.fixture(scope="module")
def tokenizer():
    keras.utils.set_random_seed(0)
    model = Tokenizer(LOCAL)
    model.quantizer.codebook.assign(random(64, 4))
    return model


def test_an_encoder_gives_the_same_vectors_wherever_the_picture_is_cut(tokenizer, skies):
    big = skies(1, 256)
    vectors = np.asarray(tokenizer.encoder(big / np.float32(127.5) - 1))
    cut = np.asarray(tokenizer.encoder(big[:, 64:192, 96:224] / np.float32(127.5) - 1))
    inside = np.s_[:, 6:10, 6:10]
    expected = vectors[:, 8:24, 12:28][inside]
    assert expected.std() > 1e-3
    assert np.allclose(cut[inside], expected, atol=1e-5)
    assert not np.allclose(cut, vectors[:, 8:24, 12:28], atol=1e-5)


def test_a_decoder_gives_the_same_pixels_wherever_the_tokens_are_cut(tokenizer):
    tokens = np.random.default_rng(0).integers(0, 64, (1, 24, 32)).astype(np.int32)
    canvas = np.asarray(tokenizer.decode(tokens))
    assert canvas.shape == (1, 192, 256, 3)
    cut = np.asarray(tokenizer.decode(tokens[:, 4:20, 9:25]))
    inside = np.s_[:, 48:80, 48:80]
    expected = canvas[:, 32:160, 72:200][inside]
    assert expected.std() > 1e-3
    assert np.allclose(cut[inside], expected, atol=1e-5)
    assert tokenizer.position_local


def test_the_tokenizer_of_the_thesis_is_not_position_local_and_says_so():
    keras.utils.set_random_seed(0)
    model = Tokenizer(THESIS)
    tokens = np.random.default_rng(0).integers(0, 64, (1, 24, 32)).astype(np.int32)
    canvas, cut = (np.asarray(model.decoder(model.quantizer.vectors(grid))) for grid in (tokens, tokens[:, 4:20, 9:25]))
    assert not np.allclose(cut[:, 24:40, 24:40], canvas[:, 16:80, 36:100][:, 24:40, 24:40], atol=1e-4)
    assert not model.position_local


def test_a_tokenizer_with_attention_sees_the_whole_picture_and_says_so():
    keras.utils.set_random_seed(0)
    model = Tokenizer({**LOCAL, "attention": True})
    for layer in (*model.encoder.layers, *model.decoder.layers):
        if isinstance(layer, RotaryAttention):
            layer.project_out.kernel.assign(random(*layer.project_out.kernel.shape))
    changed = np.zeros((2, 128, 128, 3), np.float32)
    changed[1, :8, :8] = 1
    first, second = np.asarray(model.encoder(changed))
    assert np.abs(first - second)[-1, -1].max() > 1e-5
    vectors = np.zeros((2, 16, 16, 4), np.float32)
    vectors[1, 0, 0] = 5
    first, second = np.asarray(model.decoder(vectors))
    assert np.abs(first - second)[-1, -1].max() > 1e-5
    assert not model.position_local


@pytest.mark.parametrize("config", [LOCAL, THESIS, {**LOCAL, "attention": True}, {**THESIS, "attention": True}],
                         ids=["local", "thesis", "local, attention", "thesis, attention"])
def test_tokenizers_take_any_size_and_bytes_or_floats(config):
    model = Tokenizer(config)
    pictures = np.random.default_rng(0).integers(0, 256, (2, 48, 80, 3)).astype(np.uint8)
    tokens = np.asarray(model.encode(pictures))
    assert tokens.shape == (2, 48 // config["downscale"], 80 // config["downscale"])
    assert tokens.dtype == np.int32
    assert np.array_equal(tokens, model.encode(pictures.astype(np.float32)))
    decoded = np.asarray(model.decode(tokens))
    assert decoded.shape == (2, 48, 80, 3)
    assert decoded.min() >= 0
    assert decoded.max() <= 1
    assert np.array_equal(np.clip(model(pictures), 0, 1), decoded)


def parameters(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def test_the_presets_of_the_thesis_have_the_sizes_it_reports():
    config = TOKENIZER_PRESETS["thesis"]["model"]
    assert (config["codes"], config["code_size"], config["downscale"]) == (128, 32, 4)
    assert parameters(Tokenizer(config)) == pytest.approx(1.6e6, rel=0.15)
    config = MASKGIT_PRESETS["thesis"]["model"]
    maskgit = MaskGIT(config, 128, 32)
    assert (config["window"], config["width"], config["blocks"], config["heads"]) == (32, 256, 8, 4)
    assert maskgit.body.input_shape == (None, 32, 32, 256)
    assert maskgit.embedding.residual.shape == (128, 256)


def test_the_presets_of_papers_have_the_numbers_they_print():
    """Kunda, Mudroň and Repka 2023 (pain); the exercise on MaskGIT (lab); Tiny MaskGIT (tiny)."""
    sizes = {name: preset["img_size"] for name, preset in TOKENIZER_PRESETS.items()}
    assert sizes == {"default": 128, "thesis": 128, "pain": 160, "lab": 64, "tiny": 64}
    pain, lab, tiny = (TOKENIZER_PRESETS[name]["model"] for name in ("pain", "lab", "tiny"))
    assert (pain["downscale"], pain["codes"]) == (8, 8192)
    assert (lab["downscale"], lab["codes"], lab["code_size"]) == (64 // 16, 1024, 256)
    assert (tiny["downscale"], tiny["attention"]) == (64 // 8, True)
    for config, side in ((pain, 20), (lab, 16), (tiny, 8)):
        pixels = side * config["downscale"]
        vectors = Tokenizer(config).encoder.compute_output_shape((1, pixels, pixels, 3))
        assert vectors == (1, side, side, config["code_size"])
    assert len([layer for layer in Tokenizer(tiny).encoder.layers if isinstance(layer, RotaryAttention)]) > 1
    pain, lab, tiny = (MASKGIT_PRESETS[name] for name in ("pain", "lab", "tiny"))
    assert [preset["img_size"] for preset in (pain, lab, tiny)] == [160, 64, 64]
    assert (pain["model"]["blocks"], pain["model"]["width"], pain["model"]["positions"]) == (6, 512, "fixed")
    assert (pain["learning_rate"], pain["schedule"], pain["weight_decay"]) == (3e-4, 1.0, 0)
    assert (lab["model"]["width"], lab["model"]["heads"], lab["model"]["window"]) == (768, 16, 16)
    assert (tiny["model"]["window"], tiny["model"]["classes"]) == (8, None)
    assert [preset["model"]["masks"] for preset in (pain, lab, tiny)] == ["squares", "uniform", "arccos"]
    assert not any(preset["sky_filters"] for presets in (TOKENIZER_PRESETS, MASKGIT_PRESETS)
                   for name, preset in presets.items() if name not in ("default", "thesis"))


def test_the_super_sampler_of_the_thesis_has_the_size_it_reports():
    model = SuperSampler({**SHARPEN_PRESETS["thesis"]["model"], "edge_scale": 0.1})
    assert parameters(model) == pytest.approx(18.4e6, rel=0.15)


def test_the_untrained_super_sampler_of_the_thesis_returns_its_input_at_any_size():
    """An untrained network predicts no noise, which makes the clean estimate known."""
    model = SuperSampler({**SHARPEN_PRESETS["thesis"]["model"], "edge_scale": 0.1})
    noisy = random(1, 64, 128, 3)
    clean = np.asarray(model.estimate(ops.convert_to_tensor(random(1, 16, 32, 3)), ops.convert_to_tensor(noisy), 0.5))
    np.testing.assert_allclose(clean, noisy / np.cos((np.arccos(0.95) + np.arccos(0.02)) / 2), rtol=1e-4, atol=1e-5)


def test_the_untrained_octave_sampler_returns_its_input_at_any_size():
    """An untrained network predicts a velocity of zero."""
    model = OctaveSampler(SHARPEN_PRESETS["default"]["model"])
    noisy = random(1, 16, 24, 12)
    clean = np.asarray(model.estimate(random(1, 16, 24, octaves.CONDITION), noisy, 0.5))
    np.testing.assert_allclose(clean, np.cos(angle(0.5, "wide")) * noisy, rtol=1e-4, atol=1e-5)
