"""The page of app.py: what it does with pictures, and the whole page in a headless Chromium, with tiny models."""
import json
import shutil
import signal
import socket
import time
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from page import jobs
from utilities import UserError

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET_BROWSER = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
                 "--disable-component-update", "--disable-sync"]
MODELS = [word for kind in ("tokenizer", "maskgit", "sharpen") for word in (f"--{kind}_run", "tiny")]
LARGE = 20_000, 10_001  # above 200 million pixels


@pytest.fixture(scope="module")
def uploads(tmp_path_factory, skies):
    folder = tmp_path_factory.mktemp("uploads")
    Image.fromarray(skies(1, 128)[0]).save(folder / "small sky.png")
    (folder / "notes.jpg").write_text("no picture")
    Image.new("1", LARGE).save(folder / "large.png")
    return folder


# ---------------------------------------------------------------------------------------------------------------------
# Without a browser


def test_a_frame_is_a_growth_by_pixels_that_can_grow_again():
    growth = jobs.growth_of_frame({"top": 8, "bottom": 0, "left": 16, "right": 24}, (512, 910), 128, "cirrus")
    assert (growth.top, growth.bottom, growth.left, growth.right) == ("8px", "0px", "16px", "26px")
    assert (growth.img_size, growth.label) == (128, "cirrus")
    with pytest.raises(UserError, match="drag it outwards"):
        jobs.growth_of_frame(dict.fromkeys(("top", "bottom", "left", "right"), 0), (512, 910), 128, None)
    with pytest.raises(UserError, match="9182x8704 pixels: here 67 million"):
        jobs.growth_of_frame(dict.fromkeys(("top", "bottom", "left", "right"), 4096), (512, 990), 128, None)


def test_what_is_painted_is_a_hole_at_the_size_of_the_picture():
    layer = np.zeros((50, 100, 4), np.uint8)
    layer[10:20, 30:40, 3] = 255
    layer[40:, :, 3] = 100
    hole = jobs.hole_of_layers([layer], (100, 200, 3))
    assert hole.sum() == 400
    assert hole[20:40, 60:80].all()


def test_uploads_that_are_no_pictures_or_too_large_are_refused(uploads):
    with pytest.raises(UserError, match=r"^notes.jpg cannot be read as a picture"):
        jobs.read_upload(str(uploads / "notes.jpg"))
    with pytest.raises(UserError, match=r"^large.png is 20000x10001 pixels: at most 200 million are taken.$"):
        jobs.read_upload(str(uploads / "large.png"))


def test_a_job_shows_its_progress_ends_when_it_is_closed_and_passes_errors_on():
    def endless(job):
        for step in job.bar("octave 1/4")(range(10**6)):
            steps.append(step)
            time.sleep(0.001)

    def failing(job):
        raise UserError("it failed")

    steps, job = [], jobs.Job()
    running = job.run(endless)
    next(running)
    assert job.stage == "Adding detail, up to 1/4 of the size"
    assert 0 < job.share < 1
    running.close()
    with pytest.raises(UserError, match="it failed"):  # starts when the job before has ended
        list(jobs.Job().run(failing))
    assert 0 < len(steps) < 10**5


# ---------------------------------------------------------------------------------------------------------------------
# In the browser


@pytest.fixture(scope="module")
def server(trained):
    """The running command and the address of its page."""
    pytest.importorskip("gradio", reason="gradio of requirements-app.txt is not installed")
    pytest.importorskip("playwright", reason="playwright of requirements-test.txt is not installed")
    if not CHROMIUM:
        pytest.skip("there is no Chromium")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = trained.start("app.py", "--port", port, "--threads", 1, "--precision", "float32", *MODELS)
    output = trained.folder / "output.txt"
    while "Open http" not in output.read_text():
        assert process.poll() is None, output.read_text()
        time.sleep(0.1)
    yield process, f"http://127.0.0.1:{port}"
    process.kill()


@pytest.fixture(scope="module")
def page(server):
    """The open page; page.hosts collects where its requests go."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET_BROWSER)
        page = browser.new_page()
        page.set_default_timeout(60_000)
        page.hosts = set()
        page.on("request", lambda request: page.hosts.add(request.url.partition("://")[2].partition("/")[0]))
        page.goto(server[1])
        page.wait_for_selector("#upload input[type=file]", state="attached")
        yield page
        browser.close()


def upload(page, file):
    page.set_input_files("#upload input[type=file]", file)


def set_margins(page, **margins):
    for side in ("left", "right", "top", "bottom"):
        field = page.locator(f"#frame [data-side={side}]")
        field.fill(str(margins.get(side, 0)))
        field.dispatch_event("change")


def saved(page, folder):
    """Click on the button to download and return the file."""
    with page.expect_download() as found:
        page.click("#download")
    path = folder / found.value.suggested_filename
    found.value.save_as(path)
    return path


def test_wrong_files_are_refused_in_one_sentence(page, uploads):
    page.click("#grow")
    page.get_by_text("There is no photograph: drop one first.").wait_for()
    for name, sentence in (("notes.jpg", "notes.jpg cannot be read as a picture (no format that is known)."),
                           ("large.png", "large.png is 20000x10001 pixels: at most 200 million are taken.")):
        upload(page, uploads / name)
        page.get_by_text(sentence, exact=True).wait_for()
        page.get_by_label("Clear").first.click()


def test_a_photograph_grows_and_is_saved_with_its_settings(page, uploads, skies, tmp_path):
    upload(page, uploads / "small sky.png")
    page.get_by_text("1024 × 1024 pixels").wait_for()
    page.get_by_text("More settings").click()
    shorter_side = page.get_by_label("number input for Photograph's shorter side in the result (pixels)")
    shorter_side.fill("128")
    shorter_side.press("Tab")
    page.get_by_text("640 × 640 pixels").wait_for()
    page.click("#frame [data-aspect='2:1']")
    assert page.inner_text("#frame .size") == "256 × 128 pixels"
    set_margins(page, right=16)
    assert page.inner_text("#frame .size") == "144 × 128 pixels"
    page.click("#grow")
    page.wait_for_selector("#download:visible")
    path = saved(page, tmp_path)
    with Image.open(path) as image:
        settings, pixels = json.loads(image.info["Description"]), np.asarray(image)
    assert path.name == "small sky_0_0.png"
    assert pixels.shape == (128, 144, 3)
    np.testing.assert_array_equal(pixels[:, :128], skies(1, 128)[0])
    assert settings["growth"]["right"] == "16px"
    assert (settings["picture"], settings["seed"], settings["attempt"]) == ("small sky", 0, 0)
    assert set(settings["models"]) == {"tokenizer", "maskgit", "sharpen"}
    page.get_by_label("TIFF").click()
    page.get_by_text("Download attempt 1 as TIFF").wait_for()
    with Image.open(saved(page, tmp_path)) as image:
        assert image.format == "TIFF"
        assert json.loads(image.tag_v2[270]) == settings
        np.testing.assert_array_equal(np.asarray(image), pixels)


def test_cancelled_work_stops_a_result_grows_further_and_the_page_ends_without_traces(page, server):
    page.click("#further")
    page.get_by_text("656 × 640 pixels").wait_for()
    page.fill("#attempts input[type=number]", "4")
    set_margins(page, left=1024, right=1024, top=1024, bottom=1024)
    page.click("#grow")
    page.wait_for_selector("#preview img")
    page.click("#cancel")
    page.wait_for_selector("#cancel", state="hidden")
    page.fill("#attempts input[type=number]", "2")
    set_margins(page, top=8)
    page.click("#grow")
    page.wait_for_selector("#cancel")
    page.wait_for_selector("#cancel", state="hidden")
    results = Path(unquote(page.get_attribute("#gallery img", "src").partition("file=")[2])).parents[1]
    names = sorted(path.name for path in results.glob("tmp*/*.png"))
    assert names == ["small sky_0_0.png", "small sky_0_0_0_0.png", "small sky_0_0_0_1.png"]


    process, address = server
    assert page.hosts == {address.removeprefix("http://")}, "no request leaves this computer"
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert not results.exists()
