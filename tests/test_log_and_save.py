"""Runs and models on disk: reading returns the written values, no half-written files, wrong models are refused."""
import json
import shutil
import struct

import h5py
import numpy as np
import pytest
from PIL import Image

import log_and_save
from log_and_save import (
    FORMAT_VERSION,
    Run,
    check_pair,
    fingerprint,
    load_config,
    load_weights,
    model_folder,
    picture_grid,
    save_model,
)
from maskgit import load_maskgit
from tokenizer import Tokenizer, load_tokenizer
from utilities import UserError, replacing

MODEL = {"style": "local", "filters": [8, 8, 8], "blocks": 1, "codes": 16, "code_size": 4, "quantizer": "ema",
         "downscale": 8}
CONFIG = {"kind": "tokenizer", "run": "my", "model": MODEL, "images": 12}


def refused(pattern, function, *arguments, **options):
    """The function must raise a UserError of one sentence that matches the pattern."""
    with pytest.raises(UserError, match=pattern) as caught:
        function(*arguments, **options)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith((".", ")."))


@pytest.fixture
def saved(tmp_path):
    """(folder, model) of a tokenizer written to models/tokenizer_my."""
    model = Tokenizer(MODEL)
    folder = tmp_path / "models" / "tokenizer_my"
    save_model(folder, model, CONFIG)
    return folder, model


# ---------------------------------------------------------------------------------------------------------------------
# Models


def test_a_loaded_model_is_the_saved_one_up_to_float16_rounding(saved):
    folder, model = saved
    config = json.loads((folder / "config.json").read_text())
    assert config == {"format": FORMAT_VERSION, "fingerprint": fingerprint(folder), **CONFIG}
    loaded, loaded_config, _ = load_tokenizer(folder=folder)
    assert loaded_config == config
    assert len(model.weights) == len(loaded.weights) > 20
    for before, after in zip(model.weights, loaded.weights, strict=True):
        expected = np.asarray(before)
        if np.issubdtype(expected.dtype, np.floating):
            expected = expected.astype(np.float16).astype(expected.dtype)
        assert np.array_equal(after, expected)


def test_weights_are_stored_as_float16(saved):
    folder, _ = saved
    kinds = set()
    with h5py.File(folder / "model.weights.h5") as file:
        file.visititems(lambda _, item: kinds.add(item.dtype.name) if isinstance(item, h5py.Dataset) else None)
    assert "float16" in kinds
    assert not kinds & {"float32", "float64"}


def test_the_fingerprint_depends_on_weights_and_not_on_files(saved, tmp_path):
    folder, model = saved
    save_model(tmp_path / "again", model, CONFIG)
    assert fingerprint(tmp_path / "again") == fingerprint(folder)
    model.quantizer.codebook.assign(2 * model.quantizer.codebook)
    save_model(tmp_path / "again", model, CONFIG)
    assert fingerprint(tmp_path / "again") != fingerprint(folder)


def test_an_interrupted_save_leaves_the_old_model_and_no_other_files(saved, monkeypatch):
    folder, model = saved
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(before) == {"config.json", "model.weights.h5"}

    def interrupted(path):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(model, "save_weights", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_model(folder, model, {**CONFIG, "images": 99})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_replacing_changes_a_file_as_a_whole_or_not_at_all(tmp_path):
    file = tmp_path / "a.txt"
    with replacing(file) as temporary:
        temporary.write_text("first")
        assert not file.exists()
    assert file.read_text() == "first"
    with pytest.raises(RuntimeError), replacing(file) as temporary:
        temporary.write_text("seco")
        raise RuntimeError
    assert file.read_text() == "first"
    assert list(tmp_path.iterdir()) == [file]


def test_missing_models_are_refused_with_a_list_of_the_others(saved):
    root = saved[0].parent
    assert model_folder("tokenizer", "my", root) == saved[0]
    refused("no tokenizer run named other: known are my", model_folder, "tokenizer", "other", root)
    refused("no maskgit run named my: known are none", model_folder, "maskgit", "my", root)
    refused(r"--tokenizer_run \(my\)", model_folder, "tokenizer", None, root)
    shutil.copytree(saved[0], root / "tokenizer")
    assert model_folder("tokenizer", None, root) == root / "tokenizer"


def test_models_of_another_kind_or_time_are_refused(saved):
    folder, _ = saved
    refused("holds a tokenizer model, expected maskgit", load_config, folder, "maskgit")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "format": FORMAT_VERSION + 1}))
    refused("newer version", load_config, folder, "tokenizer")
    (folder / "config.json").write_text('{"kind": "tok')
    refused("config.json is damaged", load_config, folder, "tokenizer")
    (folder / "config.json").unlink()
    refused("does not exist", load_config, folder, "tokenizer")


@pytest.mark.parametrize("damage", ["cut", "text", "missing", "other"])
def test_weights_that_cannot_be_used_are_refused(saved, damage):
    folder, _ = saved
    weights = folder / "model.weights.h5"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:5000])
    elif damage == "text":
        weights.write_text("not a file of weights")
    elif damage == "missing":
        weights.unlink()
    model = Tokenizer({**MODEL, "code_size": 5} if damage == "other" else MODEL)
    reason = "has no weights" if damage == "missing" else "model.weights.h5 cannot be loaded"
    refused(reason, load_weights, folder, model)


def test_large_models_are_kept_in_shards(saved, monkeypatch):
    folder, model = saved
    single = fingerprint(folder)
    monkeypatch.setattr(log_and_save, "SHARD_BYTES", 4 * model.count_params() // 3)
    save_model(folder, model, CONFIG)
    shards = sorted(folder.glob("*.h5"))
    assert len(shards) >= 3
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.weights.json", *(s.name for s in shards)}
    again = Tokenizer(MODEL)
    load_weights(folder, again)
    for before, after in zip(model.weights, again.weights, strict=True):
        assert np.allclose(before, after, rtol=1e-3, atol=1e-6)
    save_model(folder.parent / "other", model, CONFIG)
    assert fingerprint(folder.parent / "other") == fingerprint(folder)
    shards[0].unlink()
    refused("cannot be loaded", load_weights, folder, again)
    monkeypatch.undo()
    save_model(folder, model, CONFIG)
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.weights.h5"}
    assert fingerprint(folder) == single


def test_a_wrong_pair_of_models_is_refused():
    config = {"tokenizer": {"run": "wide", "fingerprint": "12345678"}}
    check_pair(config, {"fingerprint": "12345678"}, "a", "b")
    refused("use --tokenizer_run wide", check_pair, config, {"fingerprint": "0"}, "a", "b")
    config["tokenizer"]["run"] = None
    refused("use the shipped tokenizer", check_pair, config, {"fingerprint": "0"}, "a", "b")


def test_a_maskgit_refuses_a_tokenizer_it_was_not_trained_with(trained, saved):
    models = trained.folder / "models"
    _, config, folder = load_tokenizer(folder=models / "tokenizer_tiny")
    load_maskgit(config, folder, folder=models / "maskgit_tiny")
    _, config, folder = load_tokenizer(folder=saved[0])
    refused("tokenizer_run tiny", load_maskgit, config, folder, folder=models / "maskgit_tiny")


# ---------------------------------------------------------------------------------------------------------------------
# Run folders


def test_a_run_keeps_its_numbers_and_pictures(tmp_path):
    config = {"kind": "tokenizer", "model": MODEL}
    run = Run("tokenizer", "my", config, "disabled", root=tmp_path / "runs")
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    run.log(8, {"psnr": 20.5})
    run = Run("tokenizer", "my", config, "disabled", root=tmp_path / "runs")
    run.log(16, {"psnr": 21.0, "loss": 0.25}, {"reconstructions": picture})
    run.finish()
    folder = tmp_path / "runs" / "tokenizer_my"
    rows = [json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()]
    assert rows == [{"images": 8, "psnr": 20.5}, {"images": 16, "psnr": 21.0, "loss": 0.25}]
    with Image.open(folder / "reconstructions_000000016.png") as image:
        assert np.array_equal(image, picture)
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json", "reconstructions_000000016.png", "stats.jsonl"]


@pytest.mark.parametrize(("changed", "named"), [
    ({"model": {**MODEL, "codes": 32}}, "codes"),
    ({"tokenizer": {"run": "wide", "fingerprint": "2"}}, "tokenizer"),
])
def test_a_run_refuses_to_go_on_as_another_model(tmp_path, changed, named):
    config = {"kind": "tokenizer", "model": MODEL, "tokenizer": {"run": "wide", "fingerprint": "1"}}
    Run("tokenizer", "my", config, "disabled", root=tmp_path)
    Run("tokenizer", "my", {**config, "images": 99}, "disabled", root=tmp_path)
    refused(f"another {named}", Run, "tokenizer", "my", {**config, **changed}, "disabled", root=tmp_path)


def test_a_run_continues_although_an_unused_setting_is_missing(tmp_path):
    Run("maskgit", "my", {"kind": "maskgit", "model": {**MODEL, "mask_ratio": 0.5}}, "disabled", root=tmp_path)
    run = Run("maskgit", "my", {"kind": "maskgit", "model": MODEL}, "disabled", root=tmp_path)
    assert run.config["model"]["mask_ratio"] == 0.5


def test_a_grid_shows_rows_of_pictures_with_white_between():
    pictures = np.arange(6 * 2 * 3 * 3).reshape(2, 3, 2, 3, 3).astype(np.uint8)
    grid = picture_grid(list(pictures))
    assert grid.shape == (2 * 4, 3 * 5, 3)
    for row in range(2):
        for column in range(3):
            cell = grid[4 * row:4 * row + 4, 5 * column:5 * column + 5]
            assert np.array_equal(cell[:2, :3], pictures[row, column])
            assert (cell[2:] == 255).all()
            assert (cell[:, 3:] == 255).all()


# ---------------------------------------------------------------------------------------------------------------------
# wandb


LOGGING = """
import sys
import time
import numpy as np
from log_and_save import Run
from utilities import UserError
try:
    for images in (8, 16):
        run = Run("tokenizer", "logged", {"model": {"codes": 16}}, sys.argv[1])
        run.log(images, {"psnr": images + 0.5}, {"samples": np.full((4, 6, 3), images, np.uint8)})
        run.finish()
        time.sleep(1)  # the names of wandb's folders contain the second
except UserError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def log(workshop, tmp_path, monkeypatch):
    """Function (mode) that logs twice to wandb in its own process, without a key; returns the root it logged to."""
    for variable in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    for name in ("wandb", "runs/tokenizer_logged"):
        shutil.rmtree(workshop.folder / name, ignore_errors=True)

    def log(mode, status=0):
        return workshop.folder, workshop.run("-c", LOGGING, mode, status=status)

    return log


def wandb_records(path):
    """The records of a .wandb file: a header of 7 bytes, then blocks of 32 KiB of chunks as in LevelDB's log."""
    from wandb.proto import wandb_internal_pb2

    data, position, parts = path.read_bytes(), 7, b""
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        length, kind = struct.unpack_from("<HB", data, position + 4)
        parts += data[position + 7:position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


@pytest.mark.parametrize("mode", ["offline", "auto"])
def test_wandb_gets_numbers_and_pictures_offline_and_a_resumed_run_keeps_its_name(log, mode):
    root, _ = log(mode)
    identity = json.loads((root / "runs" / "tokenizer_logged" / "config.json").read_text())["run_id"]
    history = []
    files = list((root / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(files) == 2
    for file in files:
        assert identity in file.name
        for record in wandb_records(file):
            if record.WhichOneof("record_type") == "run":
                assert (record.run.project, record.run.display_name) == ("sky-outpainting", "tokenizer_logged")
            if record.WhichOneof("record_type") == "history":
                history.append({".".join(item.nested_key) or item.key: json.loads(item.value_json)
                                for item in record.history.item})
    assert sorted((row["images"], row["psnr"], row["_step"]) for row in history) == [(8, 8.5, 8), (16, 16.5, 16)]
    for row in history:
        picture, = (root / "wandb").glob(f"offline-run-*/files/{row['samples.path']}")
        with Image.open(picture) as image:
            assert np.array_equal(image, np.full((4, 6, 3), row["images"]))


def test_wandb_disabled_writes_nothing(log):
    root, _ = log("disabled")
    assert not (root / "wandb").exists()
    assert (root / "runs" / "tokenizer_logged" / "stats.jsonl").is_file()


def test_wandb_online_without_a_key_is_refused_and_says_what_to_do(log):
    _, output = log("online", status=1)
    assert output.strip().endswith("--wandb online needs a key: run `wandb login` once, or use --wandb offline.")
    assert "Traceback" not in output
