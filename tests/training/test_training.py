"""The training commands: what they leave, how they stop and go on, and that both backends make the same models."""
import argparse
import json
import shutil
import signal
import sys
import time

import numpy as np
import pytest
from conftest import QUIET, REPOSITORY, tiny_command
from PIL import Image

from autoregressive import load_autoregressive
from dataset import add_data_options, load_crops
from decoding.super_sampling import add_octave
from diffusion_model_upscale import load_super_sampler
from maskgit import PRESETS as MASKGIT
from maskgit import load_maskgit
from networks.backend import keras, ops
from tokenizer import load_tokenizer
from training.loop import WarmUpCosine, make_optimizer
from training.tokens import in_colours
from utilities import own_seed

sys.path.insert(0, str(REPOSITORY / "benchmarks"))
from kills import curves, killed, stats  # noqa: E402

METRICS = {
    "tokenizer": {"loss", "psnr", "codes_used", "perplexity", "spectrum_db", "high_frequencies_kept"},
    "maskgit": {"loss", "accuracy", "one_step_loss", "one_step_accuracy", "full_loss", "full_accuracy", "guided_loss",
                "guided_accuracy"},
    "sharpen": {"loss", "scale_loss", "contrast", "typical_contrast", "decoded_contrast", "decoded_typical_contrast"},
}
THESIS_METRICS = {**METRICS, "maskgit": METRICS["maskgit"] - {"guided_loss", "guided_accuracy"},
                  "sharpen": {"loss", "image_loss", "psnr", "spectrum_db", "bicubic_psnr", "bicubic_spectrum_db"}}
SCRIPTS = {"tokenizer": "tokenizer", "maskgit": "maskgit", "sharpen": "diffusion_model_upscale"}
PICTURES = {"tokenizer": "reconstructions", "maskgit": "decodings", "sharpen": "octaves"}


def load(models, run):
    """The three models of a run, as the scripts that use them load them."""
    tokenizer, config, folder = load_tokenizer(folder=models / f"tokenizer_{run}")
    maskgit, _ = load_maskgit(config, folder, folder=models / f"maskgit_{run}")
    sharpen, _ = load_super_sampler(config, folder, folder=models / f"sharpen_{run}")
    return tokenizer, maskgit, sharpen


def assert_usable(models, run):
    """The models of a run take each other's output, and all of it is finite."""
    tokenizer, maskgit, sharpen = load(models, run)
    window = maskgit.config["window"]
    tokens = np.full((1, window, window), maskgit.mask_token, np.int32)
    logits = np.asarray(maskgit(tokens))
    assert np.isfinite(logits).all()
    picture = tokenizer.decode(logits.argmax(-1))
    noise = np.random.default_rng(0).normal(size=(1, *(4 * side for side in picture.shape[1:3]), 3))
    if sharpen.config["style"] == "thesis":
        edges = sharpen.estimate(picture * 2 - 1, ops.convert_to_tensor(noise.astype(np.float32)), 0.5)
        assert edges.shape == noise.shape
        assert np.isfinite(edges).all()
    else:
        larger = add_octave(np.asarray(picture)[0], None, sharpen.prepare, sharpen.estimate, 1, 0)
        assert larger.shape == tuple(2 * side for side in picture.shape[1:3]) + (3,)
        assert np.isfinite(larger).all()


# ---------------------------------------------------------------------------------------------------------------------
# What a run leaves


@pytest.mark.parametrize("kind", SCRIPTS)
def test_a_run_leaves_its_settings_numbers_pictures_and_a_checkpoint(trained, kind):
    folder = trained.folder / "runs" / f"{kind}_tiny"
    images = {"tokenizer": 64, "maskgit": 16, "sharpen": 12}[kind]
    rows = stats(folder)
    assert [row["images"] for row in rows] == [*range(8, images, 8), images]
    for row in rows:
        assert set(row) == METRICS[kind] | {"images", "images_per_second"}
        assert np.isfinite(list(row.values())).all()
    for row in rows:
        with Image.open(folder / f"{PICTURES[kind]}_{row['images']:09}.png") as picture:
            assert np.asarray(picture).std() > 5
    assert json.loads((folder / "config.json").read_text())["data"]["name"] == "sky"
    with np.load(folder / "checkpoint.npz") as checkpoint:
        assert int(checkpoint["images"]) == images
    config = json.loads((trained.folder / "models" / f"{kind}_tiny" / "config.json").read_text())
    assert config["images"] == images
    assert config["scores"] == rows[-1]


def test_models_load_and_fit_together(trained):
    assert_usable(trained.folder / "models", "tiny")


def test_the_exported_model_is_the_average_and_not_the_last_step(trained):
    """The model file has the optimizer's averages of the weights, rounded to halves."""
    tokenizer, _, _ = load_tokenizer(folder=trained.folder / "models" / "tokenizer_tiny")
    with np.load(trained.folder / "runs" / "tokenizer_tiny" / "checkpoint.npz") as checkpoint:
        arrays = [checkpoint[f"v{index}"] for index in range(len(checkpoint.files) - 2)]

    def found(weight, arrays):
        return any(array.shape == weight.shape and np.allclose(array, weight, atol=1e-6, rtol=1e-3)
                   for array in arrays)

    raw, optimizer = arrays[:len(tokenizer.variables)], arrays[len(tokenizer.variables):]
    kernels = [np.asarray(weight) for weight in tokenizer.trainable_variables if len(weight.shape) == 4]
    assert all(found(kernel, optimizer) for kernel in kernels)
    assert not any(found(kernel, raw) for kernel in kernels)


@pytest.mark.parametrize("steps", [20, 400])
def test_the_average_of_a_short_run_forgets_how_it_began(steps):
    """Weights that wander from 1 to 0 in the first half of the run and stay there."""
    settings = {**MASKGIT["default"], "images": steps * 16, "learning_rate": 1e-30, "weight_decay": 0.0}
    weight = keras.Variable(np.ones(3, np.float32))
    optimizer = make_optimizer(settings)
    optimizer.build([weight])
    for step in range(steps):
        weight.assign(np.full(3, max(0, 1 - 2 * step / steps), np.float32))
        optimizer.apply([ops.zeros(3)], [weight])
    average = float(np.asarray(optimizer._model_variables_moving_average[0])[0])
    assert 0 < average < 0.03


def test_the_average_of_a_long_run_is_that_of_its_preset():
    assert make_optimizer(MASKGIT["default"]).ema_momentum == MASKGIT["default"]["ema"]


def test_the_learning_rate_rises_and_falls():
    rate = WarmUpCosine(0.5, 1000, warm_up=100)
    values = np.array([float(rate(step)) for step in (0, 49, 99, 550, 1000, 2000)])
    assert values == pytest.approx([0.005, 0.25, 0.5, 0.5 * (0.01 + 0.99 * 0.5), 0.005, 0.005], rel=1e-3)


# ---------------------------------------------------------------------------------------------------------------------
# Stopping and going on


def test_a_run_that_is_killed_again_and_again_ends_as_if_it_had_not_been(trained):
    """kill -9 at moments in which it trains, measures or saves."""
    runs, models = trained.folder / "runs", trained.folder / "models"
    command = tiny_command("tokenizer", "--run_name", "again", "--images", 64)
    assert killed(trained, command, runs / "tokenizer_again", kills=5, longest=0.05) >= 3
    assert curves(runs / "tokenizer_again") == curves(runs / "tokenizer_tiny")
    fingerprints = [json.loads((models / f"tokenizer_{run}" / "config.json").read_text())["fingerprint"]
                    for run in ("again", "tiny")]
    assert fingerprints[0] == fingerprints[1]


def test_a_run_that_is_stopped_keeps_everything_and_goes_on(trained):
    runs, models = trained.folder / "runs", trained.folder / "models"
    shutil.copytree(runs / "tokenizer_tiny", runs / "tokenizer_longer")
    command = tiny_command("tokenizer", "--run_name", "longer", "--images", 4000)
    process = trained.start(*command)
    while len(stats(runs / "tokenizer_longer")) < 9 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    output = (trained.folder / "output.txt").read_text()
    assert "Resuming tokenizer_longer at image 64." in output
    assert "The same command goes on." in output
    load_tokenizer(folder=models / "tokenizer_longer")
    images = json.loads((models / "tokenizer_longer" / "config.json").read_text())["images"]
    assert 64 < images < 4000
    assert int(np.load(runs / "tokenizer_longer" / "checkpoint.npz")["images"]) == images


def test_the_time_limit_leaves_two_batches_and_the_speed_is_that_of_the_second(trained):
    """The first builds the graph, which takes a second and more; 2 crops of 64 pixels alone take milliseconds."""
    output = trained.tiny("tokenizer", "--run_name", "short", "--minutes", 0.001)
    assert "Stopped at image 4;" in output
    (row,) = stats(trained.folder / "runs" / "tokenizer_short")
    assert row["images"] == 4
    assert row["images_per_second"] > 10


def test_a_finished_run_says_so_and_changes_nothing(trained):
    weights = trained.folder / "models" / "maskgit_tiny" / "model.weights.h5"
    before = weights.read_bytes()
    output = trained.tiny("maskgit", "--run_name", "tiny", "--tokenizer_run", "tiny")
    assert "maskgit_tiny is finished (16 images)" in output
    assert weights.read_bytes() == before


def test_a_run_name_cannot_be_used_for_another_architecture(trained):
    output = trained.run("tokenizer.py", "--pack", "sky.npy", "--run_name", "tiny", *QUIET, status=2)
    assert "tokenizer_tiny was started with another" in output
    assert "--run_name" in output
    assert "Traceback" not in output


def test_a_loss_that_is_not_a_number_stops_the_run_and_keeps_the_checkpoint(trained):
    """A finished run is given more images, with a learning rate that no network survives."""
    runs = trained.folder / "runs"
    shutil.copytree(runs / "tokenizer_tiny", runs / "tokenizer_wild")
    before = (runs / "tokenizer_wild" / "checkpoint.npz").read_bytes()
    output = trained.tiny("tokenizer", "--run_name", "wild", "--images", 128, "--learning_rate", 1e30, status=2)
    assert "the loss is no longer a number at image 72, the last good checkpoint is that of image 64 (" in output
    assert "lower --learning_rate" in output
    assert "Traceback" not in output
    assert (runs / "tokenizer_wild" / "checkpoint.npz").read_bytes() == before
    assert not (trained.folder / "models" / "tokenizer_wild").exists()


def test_crops_that_are_no_whole_number_of_tokens_wide_are_refused_in_one_sentence(workshop):
    output = workshop.tiny("tokenizer", "--run_name", "uneven", "--img_size", 100, status=2)
    assert "error: " in output
    assert "--img_size" in output
    assert "Traceback" not in output


def test_a_pack_without_development_crops_is_refused_in_one_sentence(workshop):
    for ending in (".npy", ".json"):
        shutil.copy(workshop.folder / f"sky{ending}", workshop.folder / f"alone{ending}")
    np.save(workshop.folder / "alone.dev.npy", np.zeros((0, 256, 256, 3), np.uint8))
    output = workshop.tiny("tokenizer", "--run_name", "alone", "--pack", "alone.npy", status=2)
    assert "error: " in output
    assert "Traceback" not in output


# ---------------------------------------------------------------------------------------------------------------------
# Presets and backends


def test_the_presets_of_the_thesis_train(workshop, skies):
    """Measured on a single picture, since that takes longer than the training."""
    for ending in (".npy", ".json"):
        shutil.copy(workshop.folder / f"sky{ending}", workshop.folder / f"single{ending}")
    np.save(workshop.folder / "single.dev.npy", skies(1, 256, seed=1))
    options = ("--pack", "single.npy", "--preset", "thesis", "--run_name", "thesis", *QUIET)
    own = ("--tokenizer_run", "thesis", *options)
    workshop.run("eager.py", "tokenizer.py", *options, "--img_size", 64, "--images", 2, "--batch_size", 2)
    workshop.run("eager.py", "maskgit.py", *own, "--images", 2, "--batch_size", 2, "--token_crops", 2)
    workshop.run("eager.py", "diffusion_model_upscale.py", *own, "--images", 1, "--batch_size", 1, "--img_size", 128)
    for kind in SCRIPTS:
        row, = stats(workshop.folder / "runs" / f"{kind}_thesis")
        assert set(row) == THESIS_METRICS[kind] | {"images", "images_per_second"}
    assert_usable(workshop.folder / "models", "thesis")


def test_the_presets_of_papers_and_a_tokenizer_with_attention_train(workshop, skies):
    """With few and small layers, otherwise as they are: their pictures, tokens, masks and labels."""
    shutil.copy(workshop.folder / "sky.npy", workshop.folder / "labelled.npy")
    np.save(workshop.folder / "labelled.dev.npy", skies(1, 256, seed=1))
    (workshop.folder / "labelled.json").write_text(json.dumps(
        {"class_names": ["goldfish", "teapot"], "training_classes": [0, 1] * 6}))
    common = ("--pack", "labelled.npy", "--images", 2, "--tick", 2, *QUIET)
    commands = ["tokenizer.py", *common, "--img_size", 64, "--attention", "--run_name", "attentive"]
    for preset in ("pain", "lab", "tiny"):
        own = ("--preset", preset, "--run_name", f"of_{preset}", *common)
        commands += ["then", "tokenizer.py", *own]
        for script in ("maskgit.py", "autoregressive.py") if preset == "pain" else ("maskgit.py",):
            commands += ["then", script, "--tokenizer_run", f"of_{preset}", "--token_crops", 2, *own]
    workshop.run("eager.py", "tiny.py", *commands)

    def config(name):
        return json.loads((workshop.folder / "models" / name / "config.json").read_text())

    for preset, size, tokens in (("pain", 160, 20), ("lab", 64, 16), ("tiny", 64, 8)):
        found = config(f"maskgit_of_{preset}")
        assert (config(f"tokenizer_of_{preset}")["img_size"], found["data"]["size"]) == (size, size)
        assert found["model"]["window"] == tokens
        assert found["model"]["classes"] == (["goldfish", "teapot"] if preset == "tiny" else [])
        assert (found["settings"]["whole"], found["settings"]["sky_filters"]) == (True, False)
    assert config("autoregressive_of_pain")["data"] == config("maskgit_of_pain")["data"]
    model, _, _ = load_tokenizer(folder=workshop.folder / "models" / "tokenizer_attentive")
    assert model.config["attention"]
    assert not model.position_local


def test_models_train_on_jax_without_tensorflow_and_load_with_it(workshop):
    """The tokens that MaskGIT's run kept, on which the autoregressive transformer trains too, were made by JAX;
    TensorFlow makes the same of the same crops."""
    environment = workshop.jax()
    workshop.run("-c", "import tensorflow", status=1, **environment)
    command = []
    for kind, script in SCRIPTS.items():
        own = () if kind == "tokenizer" else ("--tokenizer_run", "jax")
        command += ["then", *tiny_command(script, "--run_name", "jax", *own)[1:]]
    command += ["then", "autoregressive.py", "--tokens", "runs/maskgit_jax/tokens.npz", "--tokenizer_run", "jax",
                "--run_name", "jax", "--images", 4, "--tick", 4, *QUIET]
    workshop.run("tiny.py", *command[1:], **environment)
    for kind in SCRIPTS:
        assert [row["images"] for row in stats(workshop.folder / "runs" / f"{kind}_jax")] == [8, 16]
    assert_usable(workshop.folder / "models", "jax")
    tokenizer, tokenizer_config, folder = load_tokenizer(folder=workshop.folder / "models" / "tokenizer_jax")
    load_autoregressive(tokenizer_config, folder, folder=workshop.folder / "models" / "autoregressive_jax")
    made_by_jax = np.load(workshop.folder / "runs" / "maskgit_jax" / "tokens.npz")["tokens"]
    parser = argparse.ArgumentParser()
    add_data_options(parser, scale_down=4)
    crops = load_crops(parser.parse_args(["--pack", str(workshop.folder / "sky.npy")]), 80)
    batch = in_colours(next(crops.batches(16, 0)), "normalised", own_seed(0, "colours", 0))
    tokens = np.asarray(tokenizer.encode(batch))
    assert len(np.unique(tokens)) > 4
    assert (tokens == made_by_jax).mean() > 0.999
