"""train_all.py: three tiny models one after another, and continuing after a stop."""
import json

import numpy as np
import pytest
from conftest import Workshop

import train_all


@pytest.fixture(scope="module")
def small(tmp_path_factory, skies):
    """A workshop with a pack of a few small pictures."""
    workshop = Workshop(tmp_path_factory.mktemp("small"))
    for part, count, seed in (("", 6, 0), (".dev", 2, 1)):
        np.save(workshop.folder / f"sky{part}.npy", skies(count, 128, seed))
    (workshop.folder / "sky.json").write_text("{}")
    return workshop


def images_of(workshop):
    """Numbers of training images of the three models."""
    return [json.loads((workshop.folder / "models" / f"{kind}_quick" / "config.json").read_text())["images"]
            for kind in ("tokenizer", "maskgit", "sharpen")]


def test_three_models_are_trained_in_the_time_and_go_on_when_there_is_more(small):
    command = ("eager.py", "tiny.py", "train_all.py", "--pack", "sky.npy", "--run_name", "quick", "--minutes")
    (small.folder / "runs").mkdir()
    for kind in ("tokenizer", "sharpen"):  # the trial of one of the three is enough
        (small.folder / "runs" / f"{kind}_quick.speed").write_text("20")

    def speed_of(kind):
        return float((small.folder / "runs" / f"{kind}_quick.speed").read_text())

    small.run(*command, 3, WANDB_MODE="disabled")
    first = images_of(small)
    for kind, images, share in zip(("tokenizer", "maskgit", "sharpen"), first, (0.2, 0.6, 0.2), strict=True):
        assert images == pytest.approx(60 * 0.01 * 3 * share * speed_of(kind), abs=3)
        assert not (small.folder / "models" / f"{kind}_quick_trial").exists()
    (small.folder / "sky.npy").rename(small.folder / "other.npy")
    assert small.run(*command, 3, status=2).count("Traceback") == 0
    (small.folder / "other.npy").rename(small.folder / "sky.npy")
    output = small.run(*command, 9, WANDB_MODE="disabled")
    assert "tokenizer_quick is finished" in output
    assert "Resuming maskgit_quick" in output
    more = images_of(small)
    assert more[0] == first[0]
    minutes = (0.01 * 9 - more[0] / (60 * 20)) / 0.8  # without those of the tokenizer, which is finished
    assert more[1] == pytest.approx(60 * minutes * 0.6 * speed_of("maskgit"), abs=3)
    assert more[2] == pytest.approx(60 * minutes * 0.2 * 20, abs=3)
    assert more[2] > 2 * first[2]


def test_every_model_has_the_preset(small, monkeypatch):
    given = {}
    monkeypatch.setattr(train_all, "train",
                        lambda kind, options, *_: given.update({kind: list(map(str, options))}) or 1234)
    train_all.main(train_all.build_parser().parse_args(["--pack", str(small.folder / "sky.npy"), "--preset", "thesis"]))
    assert set(given) == {"tokenizer", "maskgit", "sharpen"}
    assert all("--preset thesis" in " ".join(options) for options in given.values())
    for kind in ("maskgit", "sharpen"):
        assert "--token_crops 1234" in " ".join(given[kind])  # as many as the tokenizer was trained on


@pytest.mark.parametrize(("options", "hint"), [
    ((), "Give --dataset_location or set"), (("--pack", "no.npy"), "no.npy does not exist"),
    (("--pack", "sky.npy", "--sharp_pack", "sky.json"), "sky.json must end in"),
    (("--pack", "sky.npy", "--dataset_location", "."), "Give either --pack or --dataset_location, not both"),
    (("--pack", "sky.npy", "--sharp_pack", "sky.npy", "--sharp_location", "."),
     "Give either --sharp_pack or --sharp_location, not both"),
    (("--minutes", 1), "out of range")])
def test_wrong_input_is_one_sentence(small, options, hint):
    output = small.run("train_all.py", *options, status=2, IMAGE_OUTPAINTING_DATASET_LOCATION="")
    assert hint in output
    assert "Traceback" not in output
