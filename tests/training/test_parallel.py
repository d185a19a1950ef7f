"""Training on several devices, and by several workers, is the training of one device."""
import json
import os
import signal
import socket
import time
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from conftest import QUIET, Workshop

from tokenizer import PRESETS, build_parser, main
from training import devices, loop
from utilities import UserError, run_command

TWO_PROCESSORS = """import runpy, sys
from utilities import import_tensorflow
tensorflow = import_tensorflow()
tensorflow.config.set_logical_device_configuration(
    tensorflow.config.list_physical_devices("CPU")[0], [tensorflow.config.LogicalDeviceConfiguration()] * 2)
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
TRAIN = ("tiny.py", "tokenizer.py", "--pack", "sky.npy", "--img_size", 64, "--tick", 2, "--images", 16, *QUIET)


@pytest.fixture(scope="module")
def computers(tmp_path_factory, skies):
    """Function (name) -> Workshop of that name with a pack; none sees the files of another."""
    crops, dev = skies(12, 128), skies(2, 128, seed=1)

    def computer(name):
        workshop = Workshop(tmp_path_factory.mktemp(name))
        np.save(workshop.folder / "sky.npy", crops)
        np.save(workshop.folder / "sky.dev.npy", dev)
        (workshop.folder / "sky.json").write_text("{}")
        (workshop.folder / "two_processors.py").write_text(TWO_PROCESSORS)
        return workshop

    return computer


@pytest.fixture(scope="module")
def jax_alone(computers):
    """Two computers that have trained the same with JAX, one on one device, the other on two."""
    one, two = computers("one_device"), computers("two_devices")
    finish((one, start_jax(one, *TRAIN)), (two, start_jax(two, *TRAIN, devices=2)))
    return one, two


def start_jax(computer, *command, devices=1):
    """Start a command with JAX on so many devices of a computer."""
    return computer.start(*command, **computer.jax(devices))


def finish(*started):
    """Wait for (computer, process) pairs, which must all end well; returns what each printed."""
    try:
        statuses = [process.wait(300) for _, process in started]
    finally:
        for _, process in started:
            process.kill()
    outputs = [(computer.folder / "output.txt").read_text(errors="replace") for computer, _ in started]
    assert statuses == [0] * len(started), "\n".join(outputs)
    return outputs


def rows(computer):
    """The rows of stats.jsonl, one a step; none if there is no such file yet."""
    file = computer.folder / "runs" / "tokenizer_my" / "stats.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def weights(computer):
    """The weights of the exported model, float16, by name."""
    found = {}
    with h5py.File(computer.folder / "models" / "tokenizer_my" / "model.weights.h5") as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def assert_same_training(computer, other):
    """The same numbers at every step, the same state of model and optimizer, the same exported weights."""
    assert [row["images"] for row in rows(computer)] == list(range(2, 17, 2))
    for row, expected in zip(rows(computer), rows(other), strict=True):
        for name in ("images", "loss", "psnr", "codes_used", "perplexity"):
            assert row[name] == pytest.approx(expected[name], rel=1e-5)
    checkpoints = (folder.folder / "runs" / "tokenizer_my" / "checkpoint.npz" for folder in (computer, other))
    with np.load(next(checkpoints)) as found, np.load(next(checkpoints)) as expected:
        assert found.files == expected.files
        for name in found.files:
            if name.startswith("v"):
                np.testing.assert_allclose(found[name], expected[name], rtol=1e-3, atol=1e-5)
    found, expected = weights(computer), weights(other)
    assert found.keys() == expected.keys()
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], rtol=2e-3, atol=1e-5)


# ---------------------------------------------------------------------------------------------------------------------
# Runs


def test_two_devices_of_jax_train_as_one(jax_alone):
    one, two = jax_alone
    assert_same_training(two, one)


def test_two_replicas_of_tensorflow_train_as_one_device(computers):
    one, two = computers("one_processor"), computers("two_processors")
    finish((one, one.start(*TRAIN)), (two, two.start("two_processors.py", *TRAIN)))
    assert_same_training(two, one)


def test_two_workers_stop_together_go_on_and_train_as_one(computers, jax_alone):
    """They share no disk; the second is told to stop, so both do; only the first writes anything."""
    first, second = both = computers("worker_0"), computers("worker_1")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = (*TRAIN, "--workers", f"127.0.0.1:{port},127.0.0.1:1", "--worker")
    started = [(computer, start_jax(computer, *command, number)) for number, computer in enumerate(both)]
    deadline = time.monotonic() + 300
    while not rows(first) and all(process.poll() is None for _, process in started) and time.monotonic() < deadline:
        time.sleep(0.01)
    started[1][1].send_signal(signal.SIGINT)
    outputs = finish(*started)
    images = rows(first)[-1]["images"]
    assert images < 16
    assert f"Stopped at image {images};" in outputs[0]
    assert "image" not in outputs[1]
    outputs = finish(*((computer, start_jax(computer, *command, number)) for number, computer in enumerate(both)))
    assert f"Resuming tokenizer_my at image {images}." in outputs[0]
    assert "image" not in outputs[1]
    assert_same_training(first, jax_alone[0])
    assert not {"runs", "models", "wandb"} & set(os.listdir(second.folder))


# ---------------------------------------------------------------------------------------------------------------------
# Wrong input


@pytest.mark.parametrize(("options", "hint"), [
    (["--workers", "here:1"], "at least two machines"), (["--workers", "here:1,there"], "HOST:PORT"),
    (["--workers", "here:1,there:70000"], "HOST:PORT"), (["--worker", "-1"], "out of range"),
    (["--worker", "0"], "go together"), (["--workers", "here:1,there:1"], "go together"),
    (["--workers", "here:1,there:1", "--worker", "2"], "is not among the 2 of --workers"),
    (["--workers", "here:1,there:1", "--worker", "1"], "KERAS_BACKEND=jax")])
def test_wrong_workers_are_refused_in_one_sentence(monkeypatch, capsys, options, hint):
    monkeypatch.setattr(devices.keras.backend, "backend", lambda: "tensorflow")
    with pytest.raises(SystemExit) as refused:
        run_command(main, build_parser(), ["--pack", "sky.npy", *options])
    assert refused.value.code == 2
    assert hint in capsys.readouterr().err


def test_workers_that_cannot_meet_say_so(monkeypatch):
    monkeypatch.setattr(devices.keras.backend, "backend", lambda: "jax")
    monkeypatch.setattr(devices, "START_SECONDS", 0)
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} of this machine cannot be used"):
            devices.join_workers([("here", port), ("there", 1)], 0)
    with pytest.raises(UserError, match=f"worker 0 does not answer at 127.0.0.1:{port}"):
        devices.join_workers([("127.0.0.1", port), ("there", 1)], 1)

    def unknown(*_, **__):
        raise socket.gaierror

    monkeypatch.setattr(socket, "create_connection", unknown)
    with pytest.raises(UserError, match="no machine named nowhere"):
        devices.join_workers([("nowhere", port), ("there", 1)], 1)


def test_workers_with_other_options_are_refused(monkeypatch):
    devices.check_alike({"batch_size": 8})
    monkeypatch.setattr(devices, "from_first", lambda digest: digest + 1)
    with pytest.raises(UserError, match="start them alike"):
        devices.check_alike({"batch_size": 8})


def test_a_batch_that_devices_cannot_share_is_refused(monkeypatch):
    monkeypatch.setattr(devices, "device_count", lambda: 3)
    devices.check_batch_size(6)
    with pytest.raises(UserError, match="--batch_size 8 cannot be shared equally by 3 devices"):
        devices.check_batch_size(8)


# ---------------------------------------------------------------------------------------------------------------------
# Parts of a batch


def test_parts_of_a_batch_draw_the_numbers_of_the_whole_batch(monkeypatch):
    def draw(rows):
        return np.random.default_rng(0).random((rows, 2))

    whole = devices.own_rows(draw, 6)
    monkeypatch.setattr(devices, "parts", lambda: 3)
    for number in range(3):
        monkeypatch.setattr(devices, "_part", lambda number=number: SimpleNamespace(replica_id_in_sync_group=number))
        assert (devices.own_rows(draw, 2) == whole[2 * number:2 * number + 2]).all()


def test_a_gradient_is_scaled_and_clipped_as_a_share_of_the_whole(monkeypatch):
    monkeypatch.setattr(loop, "parts", lambda: 4)
    optimizer = loop.make_optimizer(PRESETS["default"])
    assert float(optimizer.scale_loss(1.0)) == 0.25
    assert optimizer.global_clipnorm == 0.25
