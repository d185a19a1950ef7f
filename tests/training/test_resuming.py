"""Training that goes on: other batch sizes and data, damaged files, saving that is killed, seeds."""
import argparse
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import draw_skies

import dataset
import maskgit
import tokenizer
import train_all
from archive.packs import open_pack
from archive.sky_sources import place_index
from dataset import add_data_options, load_crops
from diffusion_model_upscale import extract_decoded
from log_and_save import Run, fingerprint, load_config, save_model
from networks.backend import keras, ops
from training.loop import WarmUpCosine, make_optimizer, resume, save_checkpoint, with_preset
from training.tokens import TokenData
from utilities import ROOT, UserError, own_seed, save_picture

SETTINGS = {"images": 400, "batch_size": 2, "learning_rate": 1e-3, "schedule": "cosine", "weight_decay": 0.0,
            "beta_2": 0.99, "ema": 0.9}
TINY = {**tokenizer.PRESETS["default"]["model"], "filters": [8, 8, 8], "blocks": 1, "codes": 16, "code_size": 4}


def one_sentence(error):
    return "\n" not in str(error) and str(error).endswith(".")


# ---------------------------------------------------------------------------------------------------------------------
# Checkpoints


def small_model(batch_size=2):
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(40)])
    model.compile(optimizer=make_optimizer({**SETTINGS, "batch_size": batch_size}))
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.fixture
def checkpoint(tmp_path):
    """The file of a run that has seen 200 images in batches of 2."""
    model = small_model()
    model.optimizer.iterations.assign(100)
    save_checkpoint(tmp_path / "checkpoint.npz", model, 200, [{"images": 200}])
    return tmp_path / "checkpoint.npz"


@pytest.mark.parametrize("batch_size", [1, 2, 4, 8])
def test_the_learning_rate_depends_on_images_whatever_the_batch_size(checkpoint, batch_size):
    model = small_model(batch_size)
    assert resume(checkpoint, model, batch_size) == (200, [{"images": 200}])
    assert int(model.optimizer.iterations) == 200 // batch_size
    expected = float(WarmUpCosine(1e-3, 200)(100))
    assert float(model.optimizer.learning_rate) == pytest.approx(expected, rel=0.1)


def cut(file):
    file.write_bytes(file.read_bytes()[:900])


def emptied(file):
    file.write_bytes(b"")


def zeroed(file):
    content = bytearray(file.read_bytes())
    middle = content.index(b"NUMPY") + 300
    content[middle:middle + 64] = b"\xff" * 64
    file.write_bytes(content)


def other(file):
    np.savez(file, something=1)


@pytest.mark.parametrize("damage", [cut, emptied, zeroed, other])
def test_a_damaged_checkpoint_is_one_sentence(checkpoint, damage):
    damage(checkpoint)
    with pytest.raises(UserError, match="checkpoint.npz is damaged .*: put back a copy") as caught:
        resume(checkpoint, small_model(), 2)
    assert one_sentence(caught.value)


def test_a_checkpoint_of_another_model_is_refused(checkpoint):
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(41)])
    model.compile(optimizer=make_optimizer(SETTINGS))
    model.optimizer.build(model.trainable_variables)
    with pytest.raises(UserError, match="does not fit this model"):
        resume(checkpoint, model, 2)


# ---------------------------------------------------------------------------------------------------------------------
# What a run was trained on


CONFIG = {"kind": "tokenizer", "model": TINY, "data": {"fingerprint": "1234", "size": 64}, "seed": 0}


@pytest.mark.parametrize(("change", "named"), [
    ({"data": {"fingerprint": "5678", "size": 64}}, "data set"),
    ({"data": {"fingerprint": "1234", "size": 32}}, "size of crops"), ({"seed": 5}, "seed")])
def test_a_run_does_not_go_on_with_other_data_in_silence(tmp_path, change, named):
    Run("tokenizer", "my", CONFIG, "disabled", root=tmp_path)
    Run("tokenizer", "my", {**CONFIG, "data": {**CONFIG["data"], "dropped": 7}}, "disabled", root=tmp_path)
    with pytest.raises(UserError, match=f"another {named}: .*--start_from my") as caught:
        Run("tokenizer", "my", {**CONFIG, **change}, "disabled", root=tmp_path)
    assert one_sentence(caught.value)


def test_a_run_that_did_not_record_its_data_goes_on(tmp_path):
    Run("tokenizer", "my", {"kind": "tokenizer", "model": TINY}, "disabled", root=tmp_path)
    Run("tokenizer", "my", CONFIG, "disabled", root=tmp_path)


@pytest.mark.parametrize("content", ["{}", "[]", "{"])
def test_a_damaged_config_of_a_run_is_one_sentence(tmp_path, content):
    run = Run("tokenizer", "my", CONFIG, "disabled", root=tmp_path)
    run.config_file.write_text(content)
    with pytest.raises(UserError, match="config.json is damaged") as caught:
        Run("tokenizer", "my", CONFIG, "disabled", root=tmp_path)
    assert one_sentence(caught.value)


def write_pack(folder, seed):
    for part, count in (("", 6), (".dev", 2)):
        np.save(folder / f"sky{part}.npy", draw_skies(count, 48, seed))
    (folder / "sky.json").write_text("{}")
    return folder / "sky.npy"


def test_a_pack_with_a_damaged_header_is_one_sentence(tmp_path):
    pack = write_pack(tmp_path, 0)
    content = pack.read_bytes()
    for wrong in (content.replace(b")", b"(", 1), content.replace(b"|u1", b"|u9", 1), content[:60], b""):
        pack.write_bytes(wrong)
        with pytest.raises(UserError, match="sky.npy cannot be read") as caught:
            open_pack(pack)
        assert one_sentence(caught.value)


def test_a_damaged_index_of_an_archive_is_made_anew(tmp_path):
    (tmp_path / "camera" / "day").mkdir(parents=True)
    (tmp_path / "camera" / "day" / "1200.jpg").touch()
    place_index(tmp_path / "camera", tmp_path / "cache")
    file, = (tmp_path / "cache").iterdir()
    content = file.read_bytes()
    for place in range(0, len(content), 7):
        file.write_bytes(content[:place] + b"\xff" + content[place + 1:])
        assert place_index(tmp_path / "camera", tmp_path / "cache")[2].tolist() == [b"1200.jpg"]


def crops_of(*options):
    parser = argparse.ArgumentParser()
    add_data_options(parser, scale_down=1)
    return load_crops(parser.parse_args([*map(str, options)]), 32, dev_count=2)


def test_the_fingerprint_of_a_pack_tells_its_crops_and_their_zoom(tmp_path):
    pack = write_pack(tmp_path, 0)
    first = crops_of("--pack", pack).description["fingerprint"]
    assert crops_of("--pack", pack).description["fingerprint"] == first
    assert crops_of("--pack", pack, "--zoom_out", 1.5).description["fingerprint"] != first
    assert crops_of("--pack", write_pack(tmp_path, 3)).description["fingerprint"] != first
    assert crops_of("--pack", pack).description["size"] == 32


def token_data(model, **changes):
    args = {"pack": None, "dataset_location": None, "tokens": None, "zoom_out": 1, "token_crops": 16, "seed": 0}
    settings = {"model": {"colours": "original", "window": 4}, "whole": False, "sky_filters": True}
    return TokenData(argparse.Namespace(**{**args, **changes}), settings, model, "fingerprint", 32)


def test_tokens_are_made_anew_when_what_they_are_made_from_differs(tmp_path):
    pack, model = str(write_pack(tmp_path, 0)), tokenizer.Tokenizer(TINY)
    first = token_data(model, pack=pack).arrays(tmp_path)
    model.quantizer.codebook.assign(-model.quantizer.codebook)
    for again, kept in zip(token_data(model, pack=pack).arrays(tmp_path), first, strict=True):
        np.testing.assert_array_equal(again, kept)
    assert (token_data(model, pack=pack, seed=1).arrays(tmp_path)[0] != first[0]).any()
    file = tmp_path / "tokens.npz"
    file.write_bytes(file.read_bytes()[:100])
    assert len(token_data(model, pack=pack, seed=1).arrays(tmp_path)[0]) == 16


def test_tokens_of_another_run_need_no_pack_and_must_fit(tmp_path):
    model = tokenizer.Tokenizer(TINY)
    first = token_data(model, pack=str(write_pack(tmp_path, 0)))
    tokens, coarse, classes, dev, dev_coarse = first.arrays(tmp_path)
    assert (tokens.shape, coarse.shape, classes.shape) == ((16, 4, 4), (16, 2, 2), (16,))
    assert len(dev) == len(dev_coarse) > 0
    file = tmp_path / "tokens.npz"
    again = token_data(None, tokens=str(file))
    for name in ("description", "class_names", "class_colours"):
        assert getattr(again, name) == getattr(first, name)
    for stored, computed in zip(again.arrays(tmp_path / "elsewhere"), (tokens, coarse, classes, dev, dev_coarse),
                                strict=True):
        np.testing.assert_array_equal(stored, computed)
    (tmp_path / "damaged.npz").write_bytes(file.read_bytes()[:500])
    with np.load(file) as stored:
        arrays = dict(stored)
        np.savez(tmp_path / "other.npz", **{**arrays, "about": json.dumps(
            {**json.loads(str(arrays["about"])), "tokenizer": "another"})})
        np.savez(tmp_path / "small.npz", **{**arrays, "tokens": tokens[:, :3]})
    for wrong, words in (("none.npz", "does not exist"), ("damaged.npz", "is damaged"),
                         ("other.npz", "tokenizer of its tokens is another, expected fingerprint"),
                         ("small.npz", "smaller than a window")):
        with pytest.raises(UserError, match=words) as error:
            token_data(None, tokens=str(tmp_path / wrong))
        assert one_sentence(error.value)
    with pytest.raises(UserError, match="pack"):
        token_data(None, pack="sky.npy", tokens=str(file))


def test_decoded_crops_are_made_anew_when_what_they_are_made_from_differs(tmp_path):
    class Crops:
        def batches(self, batch_size, seed):
            while True:
                yield np.full((batch_size, 32, 32, 3), 60, np.uint8)

    model = tokenizer.Tokenizer(TINY)
    file = tmp_path / "decoded.npz"
    first = extract_decoded(model, Crops(), 9, 0, file, "a")
    assert first[0].shape == (9, 16, 16, 3)
    assert first[1].shape == (9, 8, 8, 3)
    model.decoder.set_weights([weight + 0.1 for weight in model.decoder.get_weights()])
    for again, kept in zip(extract_decoded(model, Crops(), 9, 0, file, "a"), first, strict=True):
        np.testing.assert_array_equal(again, kept)
    assert (extract_decoded(model, Crops(), 9, 0, file, "b")[1] != first[1]).any()
    file.write_bytes(file.read_bytes()[:100])
    assert len(extract_decoded(model, Crops(), 9, 0, file, "b")[0]) == 9


def test_train_all_packs_anew_what_has_changed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train_all, "CROP", 48)
    made = []

    def pack(script, *options):
        made.append(script)
        dataset.main(dataset.build_parser().parse_args([*map(str, options)]))

    monkeypatch.setattr(train_all, "run", pack)
    for label in ("cumulus", "cirrus"):
        for number, pixels in enumerate(draw_skies(6, 64, len(label))):
            (tmp_path / label).mkdir(exist_ok=True)
            save_picture(tmp_path / label / f"{number}.png", pixels)
    file = tmp_path / "my.npy"
    for folder, count in (("cumulus", 1), ("cumulus", 1), ("cirrus", 2), ("cirrus", 2)):
        assert train_all.make_pack(tmp_path / folder, file) == file
        assert len(made) == count
        assert json.loads(file.with_suffix(".json").read_text())["name"] == folder
    assert "it is made again" in capsys.readouterr().err
    monkeypatch.setattr(train_all, "CROP", 32)
    train_all.make_pack(tmp_path / "cirrus", file)
    assert np.load(file).shape[1] == 32
    with pytest.raises(UserError, match="is not a folder"):
        train_all.make_pack(tmp_path / "none", file)


# ---------------------------------------------------------------------------------------------------------------------
# Presets, seeds, codes, precision


def test_presets_are_not_changed_by_a_run():
    args = argparse.Namespace(preset="default", images=None, batch_size=8, learning_rate=None, start_from=None)
    before = json.dumps(maskgit.PRESETS)
    settings = with_preset(args, maskgit.PRESETS)
    settings["model"].update(classes=["cumulus"])
    settings["model"]["window"] = 8
    assert json.dumps(maskgit.PRESETS) == before


def test_streams_with_other_names_are_others():
    keys = [(0,), (0, 0), (0, "a"), (0, "a", 0), (0, "b"), (1, "a"), (own_seed(0, "a"), "b"), (0, "a", 1)]
    drawn = {tuple(np.random.default_rng(own_seed(*key)).integers(2**40, size=2)) for key in keys}
    assert len(drawn) == len(keys)
    again = np.random.default_rng(own_seed(own_seed(0, "a"), "b")).random()
    assert again == np.random.default_rng(own_seed(0, "a", "b")).random()


def masks_of(seed):
    """What a MaskGIT hides that is made after this --seed."""
    keras.utils.set_random_seed(seed)
    config = {**maskgit.PRESETS["default"]["model"], "window": 8, "width": 16, "blocks": 1, "heads": 2}
    return np.asarray(maskgit.MaskGIT(config, 8, 4).hidden(np.zeros((4, 8, 8), np.int32)))


def test_the_seed_reaches_the_masks():
    np.testing.assert_array_equal(masks_of(1), masks_of(1))
    assert (masks_of(1) != masks_of(2)).any()


def test_codes_are_the_means_of_the_vectors_of_the_encoder_that_is_exported():
    model = tokenizer.Tokenizer(TINY)
    pictures = draw_skies(4, 64)
    vectors = np.asarray(model.encoder(ops.cast(pictures, "float32") / 127.5 - 1)).reshape(-1, TINY["code_size"])
    before = np.asarray(model.quantizer.tokens(vectors))
    old = np.asarray(model.quantizer.codebook)
    tokenizer.fit_codes(model, pictures)
    codes = np.asarray(model.quantizer.codebook)
    for code in range(TINY["codes"]):
        expected = vectors[before == code].mean(axis=0) if (before == code).any() else old[code]
        np.testing.assert_allclose(codes[code], expected, atol=1e-4)


def test_logits_are_computed_in_float32():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        layer = maskgit.TokenEmbedding(8, 4, 16, use_codes=True)
        layer.build()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    rng = np.random.default_rng(0)
    for weight in layer.weights:
        weight.assign(rng.normal(size=weight.shape))
    x = ops.cast(rng.normal(size=(1, 2, 2, 16)), "bfloat16")
    codebook, projection, residual, bias = (np.asarray(weight) for weight in (
        layer.codebook, layer.projection, layer.residual, layer.bias))
    table = codebook @ projection + residual
    np.testing.assert_allclose(layer.logits(x), np.asarray(ops.cast(x, "float32")) @ table.T / 4 + bias, atol=1e-4)
    assert keras.backend.standardize_dtype(layer(np.zeros((1, 2), np.int32)).dtype) == "bfloat16"


# ---------------------------------------------------------------------------------------------------------------------
# Saving


SAVING = """
import itertools, sys
import h5py, numpy as np
from log_and_save import save_model
class Weights:
    def count_params(self): return 10
    def save_weights(self, path):
        with h5py.File(path, "w") as file:
            file["values"] = np.full(200_000, self.number, np.float32)
for number in itertools.count(1):
    model = Weights()
    model.number = number % 1000
    save_model(sys.argv[1], model, {"kind": "tokenizer", "model": {}, "number": number % 1000})
    print(number, flush=True)
"""


def test_a_model_is_whole_whenever_its_saving_is_killed(tmp_path):
    import h5py

    rng = np.random.default_rng(0)
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-c", SAVING, tmp_path], cwd=ROOT, stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(rng.uniform(0, 0.05))
        process.kill()
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
        config = load_config(tmp_path, "tokenizer")
        assert config["fingerprint"] == fingerprint(tmp_path)
        with h5py.File(tmp_path / "model.weights.h5") as file:
            assert (file["values"][:] == config["number"]).all()


def test_a_model_that_was_written_and_not_put_in_its_place_is_the_one_that_loads(tmp_path):
    model = tokenizer.Tokenizer(TINY)
    save_model(tmp_path / "a", model, {"kind": "tokenizer", "model": TINY, "turn": 1})
    model.quantizer.codebook.assign(model.quantizer.codebook + 1)
    save_model(tmp_path / "b", model, {"kind": "tokenizer", "model": TINY, "turn": 2})
    (tmp_path / "b").rename(tmp_path / "a" / ".saved")
    loaded, config, _ = tokenizer.load_tokenizer(folder=tmp_path / "a")
    assert config["turn"] == 2
    np.testing.assert_allclose(loaded.quantizer.codebook, model.quantizer.codebook, atol=1e-3)
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"config.json", "model.weights.h5"}


def test_weights_of_another_config_and_a_config_without_its_parts_are_refused(tmp_path):
    save_model(tmp_path, tokenizer.Tokenizer(TINY), {"kind": "tokenizer", "model": TINY})
    config = json.loads((tmp_path / "config.json").read_text())
    model = {name: value for name, value in TINY.items() if name != "blocks"}
    for changes, words in (({"fingerprint": "0"}, "does not belong to"), ({"fingerprint": None}, "has no fingerprint"),
                           ({"model": None}, "has no model"), ({"model": model}, "config.json is damaged ..blocks"),
                           ({"model": {**TINY, "filters": "many"}}, "config.json is damaged")):
        changed = {name: value for name, value in {**config, **changes}.items() if value is not None}
        (tmp_path / "config.json").write_text(json.dumps(changed))
        with pytest.raises(UserError, match=words) as caught:
            tokenizer.load_tokenizer(folder=tmp_path)
        assert one_sentence(caught.value)
