"""Models as ONNX files and as folders for the Hugging Face hub, with tiny models."""
import importlib.util
import json
import sys
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from decoding.growth import Growth
from decoding.outpainter import Outpainter
from log_and_save import shared_models
from utilities import ROOT, UserError, own_seed

RUNS = [word for kind in ("tokenizer", "maskgit", "sharpen") for word in (f"--{kind}_run", "tiny")]
GROWTH = Growth(img_size=32, temperature=0, maskgit_steps=3, token_scale=1, repaints=0)
# Prints the folders of repositories, or why they cannot be downloaded.
DOWNLOAD = """
import sys
from log_and_save import shared_models
from utilities import UserError
for name in sys.argv[1:]:
    try:
        print(shared_models(name))
    except UserError as error:
        print(error)
"""


@pytest.fixture(scope="module")
def hub(trained, tmp_path_factory):
    """The tiny models as a folder for the hub."""
    folder = tmp_path_factory.mktemp("hub")
    trained.run("export.py", "--format", "hub", "--output", folder, *RUNS)
    return folder


@pytest.fixture(scope="module")
def outpainter(hub):
    return Outpainter.load(str(hub), use_gpu=-1, precision="float32")


@pytest.fixture(scope="module")
def example():
    """The module examples/onnx_outpainting.py."""
    pytest.importorskip("onnxruntime", reason="onnxruntime of requirements-export.txt is not installed")
    spec = importlib.util.spec_from_file_location("onnx_outpainting", ROOT / "examples" / "onnx_outpainting.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_onnx_example_grows_the_same_picture_as_the_outpainter(trained, hub, outpainter, example, skies, tmp_path):
    for package in ("onnx", "tf2onnx"):
        pytest.importorskip(package, reason=f"{package} of requirements-export.txt is not installed")
    said = trained.run("export.py", "--output", tmp_path, "--models", hub, "--threads", 1)
    assert said.count("largest difference") == 6
    networks, config = example.load(tmp_path)
    assert config["models"] == outpainter.fingerprints
    photograph = np.concatenate(skies(2, 128), axis=1)
    expected = outpainter(photograph, GROWTH, seed=3)
    changes = {name: getattr(GROWTH, name) for name in ("temperature", "maskgit_steps")}
    grown = example.grow(photograph, networks, config | changes, seed=3)
    assert grown.shape == expected.shape == (128 + 256, 256 + 256, 3)
    assert np.abs(grown.astype(int) - expected).max() <= 1
    np.testing.assert_array_equal(grown[128:256, 128:384], photograph)


def test_the_onnx_example_draws_the_noise_of_own_seed(example):
    drawn, expected = (each.random(4) for each in (
        example.generator(5, "tokens", 0, 2, "roll"),
        np.random.default_rng(own_seed(own_seed(5, "tokens", 0, 2), "roll"))))
    np.testing.assert_array_equal(drawn, expected)


def test_a_folder_for_the_hub_holds_the_models_and_their_card(trained, hub, outpainter):
    header, _, card = (hub / "README.md").read_text().removeprefix("---\n").partition("\n---\n")
    assert "license: other" in header.splitlines()
    for kind in ("tokenizer", "maskgit", "sharpen"):
        config = json.loads((hub / kind / "config.json").read_text())
        own = json.loads((trained.folder / "models" / f"{kind}_tiny" / "config.json").read_text())
        assert config["fingerprint"] == own["fingerprint"] == outpainter.fingerprints[kind]
        assert config["fingerprint"] in card
        assert {path.name for path in (hub / kind).iterdir()} == {"config.json", "model.weights.h5"}


class Hub(BaseHTTPRequestHandler):
    """Answers as the Hugging Face hub does, for one repository."""

    def __init__(self, folder, *arguments):
        self.folder = folder
        super().__init__(*arguments)

    def do_GET(self):
        if self.path.startswith("/api/models/someone/skies/"):
            files = [path for path in self.folder.rglob("*.*") if path.is_file()]
            tree = [{"type": "file", "path": path.relative_to(self.folder).as_posix(), "size": path.stat().st_size,
                     "oid": "0" * 40} for path in files]
            about = {"id": "someone/skies", "sha": "0" * 40, "siblings": [{"rfilename": each["path"]} for each in tree]}
            self.answer(json.dumps(tree if "/tree/" in self.path else about).encode(), "application/json")
        elif self.path.startswith("/someone/skies/resolve/"):
            self.answer((self.folder / self.path.split("/", 5)[5]).read_bytes(), "application/octet-stream")
        else:
            self.send_error(404)

    do_HEAD = do_GET

    def answer(self, content, kind):
        self.send_response(200)
        for name, value in (("Content-Type", kind), ("Content-Length", len(content)), ("ETag", f'"{hash(content)}"'),
                            ("X-Repo-Commit", "0" * 40)):
            self.send_header(name, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *arguments):
        pass


def test_models_are_downloaded_from_the_hub_once(trained, hub, tmp_path):
    pytest.importorskip("huggingface_hub", reason="huggingface_hub of requirements-export.txt is not installed")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, hub)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path),
                       "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        said = trained.run("-c", DOWNLOAD, "someone/skies", "someone/nothing", "someone/skies", **environment)
        server.shutdown()
    folder, missing, again = said.splitlines()
    assert folder == again
    for name in ("config.json", "model.weights.h5"):
        assert (Path(folder) / "maskgit" / name).read_bytes() == (hub / "maskgit" / name).read_bytes()
    assert missing.startswith("someone/nothing is not a folder, and it cannot be downloaded")


def test_a_wrong_name_of_models_is_one_sentence(trained, monkeypatch):
    for name in ("no_such_folder", "a/b/c"):
        with pytest.raises(UserError, match="not a folder, nor a name such as user/name"):
            shared_models(name)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match="huggingface_hub, which downloads models, is not installed"):
        Outpainter.load("user/name")
