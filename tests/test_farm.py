"""--ray: a real Ray cluster of two workers on this machine, with the tiny models."""
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import outpainting
import segmentation
from machines.farm import connected, workers_of
from utilities import UserError

TINY = ("--tokenizer_run", "tiny", "--maskgit_run", "tiny", "--sharpen_run", "tiny", "--precision", "float32",
        "--img_size", 32, "--outpaint_range", 1, "--maskgit_steps", 4, "--no-generate_upsampled",
        "--attempt_count", 2)
NO_LOG = ("--wandb", "disabled", "--threads", 1)
NUMBERS = """
import json, os, signal, sys
from machines import farm

def prepare(cpus, has_gpu):
    def halve(item):
        if item == "deadly":
            os.kill(os.getpid(), signal.SIGKILL)
        return item / (2 * cpus)

    return halve

farm.RETRIES = 0
outcomes = farm.work_on(sys.argv[1], prepare, ["deadly", *range(5), "text"], 1, True, "number")
print(json.dumps(outcomes))
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """The address of a cluster with two processors. Its processes have the variable CLUSTER, its address.

    Like the commands that use it, it takes its token from the environment, whatever the user's settings are.
    """
    pytest.importorskip("ray.data", reason="the package of requirements-ray.txt is not installed")
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex()}
    with socket.socket() as free:
        free.bind(("", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus", "2", "--port",
               address.split(":")[1], "--include-dashboard", "false", "--disable-usage-stats"]
    head = subprocess.Popen(command, env={**os.environ, "CLUSTER": address}, stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL, start_new_session=True,
                            cwd=tmp_path_factory.mktemp("cluster"))
    for _ in range(300):
        assert head.poll() is None
        try:
            socket.create_connection(("127.0.0.1", int(address.split(":")[1]))).close()
            break
        except OSError:
            time.sleep(0.1)
    yield address
    os.killpg(head.pid, signal.SIGKILL)
    head.wait()
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        del os.environ[name]


def worker_processes(cluster):
    """Numbers of the worker processes of this cluster that have begun to work."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"ray::MapWorker" in (folder / "cmdline").read_bytes() and f"CLUSTER={cluster}".encode() in (
                    folder / "environ").read_bytes():
                yield int(folder.name)
        except OSError:  # it has ended
            pass


def contents(folder):
    """{name: bytes} of the files of a folder, without what a killed process has not finished."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".part_")}


def test_failures_are_named_and_stop_nothing(workshop, cluster):
    (workshop.folder / "numbers_of_farm.py").write_text(NUMBERS)
    output = workshop.run("numbers_of_farm.py", cluster)
    assert "Traceback" not in output and "raylet" not in output
    deadly, *numbers, text = json.loads(output.splitlines()[-1])
    assert numbers == [[item / 2, None] for item in range(5)]
    assert deadly[0] is None and "killed 1 times" in deadly[1]
    assert text[1].startswith("TypeError: unsupported operand")


def test_a_worker_grows_the_same_pictures_although_one_is_killed(trained, cluster, skies, tmp_path):
    folder, alone, shared = tmp_path / "pictures", tmp_path / "alone" / "results", tmp_path / "shared" / "results"
    for number, picture in enumerate(skies(5, 64)):
        folder.mkdir(exist_ok=True)
        Image.fromarray(picture).save(folder / f"{number}.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    command = (trained.folder / "outpainting.py", "--input", folder, *TINY)
    alone.parent.mkdir()
    shared.parent.mkdir()
    trained.run(*command, "--output", alone, "--example_count", 6, *NO_LOG, status=1)
    shared.mkdir()
    for file in alone.glob("[01]_*"):  # two pictures are complete, and one is not
        shutil.copy2(file, shared)
    (shared / "1_1.json").unlink()
    finished = (shared / "0_0_low.png").stat().st_mtime_ns, (shared / "0_1.json").stat().st_mtime_ns
    running = trained.start(*command, "--output", shared, "--ray", cluster, "--threads", 2)
    for _ in range(3000):
        killed = next(worker_processes(cluster), None) if list(shared.glob("[234]_source.png")) else None
        if killed:
            os.kill(killed, signal.SIGKILL)
            break
        assert running.poll() is None, (trained.folder / "output.txt").read_text()
        time.sleep(0.01)
    assert running.wait(120) == 1
    output = (trained.folder / "output.txt").read_text()
    assert "1 of 6 pictures are complete already" in output and "Left out: broken: " in output
    assert "Traceback" not in output and "raylet" not in output
    assert finished == ((shared / "0_0_low.png").stat().st_mtime_ns, (shared / "0_1.json").stat().st_mtime_ns)
    expected, found = contents(alone), contents(shared)
    assert found.keys() == expected.keys()
    for name in expected:
        if not name.endswith(".json"):  # it names the folder of the results
            assert found[name] == expected[name], name
    (folder / "broken.jpg").unlink()
    again = trained.run(*command, "--output", shared, "--ray", "auto")  # nothing is left to do
    assert "5 of 5 pictures are complete already" in again


def test_places_get_the_masks_that_one_process_makes(workshop, cluster, tmp_path):
    rng = np.random.default_rng(0)
    for place in ("north", "south", "dark"):
        (tmp_path / "archive" / place / "day").mkdir(parents=True)
        for number in range(6):
            frame = np.full((60, 80, 3), 200 if place != "dark" else 5) + rng.integers(0, 5, (60, 80, 1))
            frame[40:] //= 3
            Image.fromarray(frame.astype(np.uint8)).save(tmp_path / "archive" / place / "day" / f"{number}.jpg")
    command = ("segmentation.py", "--dataset_location", tmp_path / "archive")
    workshop.run(*command, "--masks", tmp_path / "alone", *NO_LOG, status=1)
    output = workshop.run(*command, "--masks", tmp_path / "shared", "--ray", cluster, status=1)
    assert "Left out dark: 0 of 6 frames show daylight" in output and "2 masks in" in output
    assert contents(tmp_path / "shared") == contents(tmp_path / "alone")
    made = (tmp_path / "shared" / "north_mask.png").stat().st_mtime_ns
    two = ("--places", "north", "south", "--masks", tmp_path / "shared", "--ray", "auto")
    assert workshop.run(*command, *two).count("the mask is kept") == 2
    assert (tmp_path / "shared" / "north_mask.png").stat().st_mtime_ns == made


def test_wrong_input_is_one_sentence(tmp_path, monkeypatch):
    Image.new("RGB", (64, 64), "blue").save(tmp_path / "sky.png")
    frames = ("--dataset_location", tmp_path, "--masks", tmp_path, "--ray")
    for script, options, hint in (
            (outpainting, ("--input", tmp_path, "--output", tmp_path, "--ray", "--wandb", "offline"), "logs nothing"),
            (segmentation, (*frames, "--wandb", "online"), "logs nothing to wandb"),
            (segmentation, (*frames, "--finalize"), "--ray needs --dataset_location")):
        with pytest.raises(UserError, match=hint):
            script.main(script.build_parser().parse_args(list(map(str, options))))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match="install -r requirements-ray.txt"), connected("auto"):
        pass


def test_an_address_without_a_cluster_is_named_at_once():
    pytest.importorskip("ray.data", reason="the package of requirements-ray.txt is not installed")
    with pytest.raises(UserError, match="--ray 127.0.0.1:1 cannot be used"), connected("127.0.0.1:1"):
        pass


def test_workers_fit_on_their_machine():
    assert workers_of({"CPU": 7.0}, 2, False) == 3
    assert workers_of({"CPU": 7.0, "GPU": 2.0}, 2, True) == 2
    assert workers_of({"CPU": 7.0}, 2, True) == 0
    assert workers_of({"memory": 1.0}, 1, False) == 0
