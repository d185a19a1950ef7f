"""The page in the browser: components of Gradio, and what happens when they are used."""
import base64
from collections.abc import Callable, Iterator
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from decoding.canvas import SCALE
from decoding.inpainter import Inpainter
from outpainting import shortened
from page import jobs
from utilities import ROOT, UserError, explained

SAMPLE = ROOT / "outpaint" / "cumulus.jpg"
TITLE = """# Grow a sky
Drop a photograph of clouds, drag the frame to where the sky should end, and press **Grow the sky**.
Everything happens on this computer: your pictures are sent nowhere."""
SHORTER_SIDE = 512  # pixels of a photograph in the result, at first
AROUND = 256  # new pixels at each side, at first
ANY = "as in the photograph"
NO_MARGINS = dict.fromkeys(("top", "bottom", "left", "right"), 0)
HERE = Path(__file__).parent
CSS = """
.gradio-container { max-width: 1360px !important; }
.progress img { display: block; width: 100%; max-height: 520px; object-fit: contain; border-radius: 8px; }
.progress progress { width: 100%; height: 14px; accent-color: #0284c7; }
"""


def data_url(picture: np.ndarray) -> str:
    """A picture uint8 [H, W, 3] as a JPEG in a URL."""
    file = BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def progress(job: jobs.Job) -> str:
    """What a job does, as HTML."""
    picture = "" if job.picture is None else f'<img src="{data_url(jobs.shown(job.picture))}" alt="The sky so far">'
    done = f"Attempt {len(job.results) + 1}. " if job.results else ""
    return (f'<div class="progress">{picture}<p>{done}{escape(job.stage)} …</p>'
            f'<progress max="1" value="{job.share:.3f}"></progress></div>')


def refused(error: Exception) -> gr.Error:
    """What the browser shows about wrong input."""
    return gr.Error(explained(error), print_exception=False)


def frame_of(photograph: np.ndarray, shorter_side: float, around: int | None = None) -> gr.HTML:
    """The frame around a photograph uint8 [H, W, 3]. around: new pixels at each side, None = as they are."""
    height, width = jobs.size_in_result(photograph, round(shorter_side) // SCALE)
    value = {} if around is None else {"value": dict.fromkeys(NO_MARGINS, around)}
    return gr.HTML(photograph=data_url(jobs.shown(photograph)), width=width, height=height, **value)


def take(path: str | None, shorter_side: int | None = None) -> tuple:
    """Make a file the photograph of the page: (its pixels and name, frame, shorter side in the result, editor)."""
    try:
        photograph = jobs.read_upload(str(path))
    except UserError as error:
        raise refused(error) from None
    shorter_side = shorter_side or SHORTER_SIDE
    return ((photograph, shortened(Path(str(path)).stem)), frame_of(photograph, shorter_side, AROUND), shorter_side,
            {"background": jobs.shown(photograph), "layers": [], "composite": None})


def build_page(inpainter: Inpainter, seed: int, folder: Path) -> gr.Blocks:
    """The page. seed: at first. folder: for results; Gradio may send files from it."""
    def watched(work: Callable[[jobs.Job], None]) -> Iterator[tuple]:
        """Do the work of a job; yield values for `outputs`."""
        job = jobs.Job()
        yield progress(job), gr.skip(), gr.skip(), gr.Group(visible=False)
        try:
            for _ in job.run(work):
                yield progress(job), gr.skip(), gr.skip(), gr.skip()
        except (UserError, MemoryError, OSError) as error:
            raise refused(error) from None
        files = [str(path) for path in job.results]
        yield ("", gr.Gallery(files, columns=min(len(files), 2), selected_index=0, visible=True), files,
               gr.Group(visible=True))

    def grow(photograph: tuple, margins: dict[str, int], label: str, seed: int, attempts: int,
             shorter_side: float) -> Iterator[tuple]:
        picture, name = photograph
        img_size = round(shorter_side) // SCALE
        try:
            growth = jobs.growth_of_frame(margins, jobs.size_in_result(picture, img_size), img_size,
                                          None if label == ANY else label)
        except UserError as error:
            raise refused(error) from None
        yield from watched(jobs.grow(inpainter, picture, name, growth, int(seed), int(attempts), folder))

    def fill(photograph: tuple, drawn: dict[str, Any], label: str, seed: int, attempts: int) -> Iterator[tuple]:
        picture, name = photograph
        hole = jobs.hole_of_layers(drawn["layers"], picture.shape)
        yield from watched(jobs.fill(inpainter, picture, hole, name, None if label == ANY else label, int(seed),
                                     int(attempts), folder))

    def download(files: list[str], chosen: int, kind: str) -> gr.DownloadButton:
        if not files:
            return gr.DownloadButton(interactive=False)
        path = Path(files[chosen])
        return gr.DownloadButton(f"Download attempt {chosen + 1}", interactive=True,
                                 value=str(path if kind == "PNG" else jobs.as_tiff(path)))

    def grow_further(files: list[str], chosen: int) -> tuple:
        with Image.open(files[chosen]) as image:
            return take(files[chosen], min(image.size))

    with gr.Blocks(title="Grow a sky", analytics_enabled=False, delete_cache=(3600, 86400)) as page:
        photograph, files, chosen = gr.State(), gr.State([]), gr.State(0)
        gr.Markdown(TITLE)
        with gr.Row():
            with gr.Column(scale=5):
                upload = gr.File(label="Photograph", height=110, elem_id="upload")
                with gr.Tab("Grow"):
                    frame = gr.HTML(NO_MARGINS, photograph="", width=0, height=0, elem_id="frame",
                                    html_template=(HERE / "frame.html").read_text(),
                                    css_template=(HERE / "frame.css").read_text(),
                                    js_on_load=(HERE / "frame.js").read_text())
                    grow_button = gr.Button("Grow the sky", variant="primary", elem_id="grow")
                with gr.Tab("Fill a hole"):
                    gr.Markdown("Paint over what should become sky: a bird, a wire, a logo.")
                    editor = gr.ImageEditor(label="Photograph", sources=(), transforms=(), layers=False, format="png",
                                            height=400, buttons=[], elem_id="editor",
                                            brush=gr.Brush(24, colors=["#ff3366"], color_mode="fixed"))
                    fill_button = gr.Button("Fill what is painted", variant="primary", elem_id="fill")
                with gr.Row():
                    label = gr.Dropdown([ANY, *inpainter.maskgit_config["classes"]], value=ANY, label="Kind of sky")
                    attempts = gr.Slider(1, 4, 1, step=1, label="Attempts", info="different skies to choose from")
                with gr.Accordion("More settings", open=False):
                    seed_box = gr.Number(seed, label="Seed", precision=0, minimum=0, maximum=2**31 - 1,
                                         info="the same number gives the same sky")
                    shorter_side = gr.Slider(256, 4096, SHORTER_SIDE, step=SCALE, label="Photograph's shorter side in "
                                             "the result (pixels)", info="more keeps more detail and takes longer")
            with gr.Column(scale=6):
                status = gr.HTML("<p>The new sky appears here.</p>", elem_id="status", min_height=60)
                cancel = gr.Button("Cancel", elem_id="cancel")
                gallery = gr.Gallery(label="Attempts", visible=False, object_fit="contain", height=520, buttons=[
                    "fullscreen"], interactive=False, elem_id="gallery")
                with gr.Group(visible=False) as actions:
                    with gr.Row():
                        kind = gr.Radio(["PNG", "TIFF"], value="PNG", label="File", scale=1)
                        save = gr.DownloadButton("Download", variant="primary", elem_id="download", scale=2)
                        further = gr.Button("Grow this further", elem_id="further", scale=2)

        taken, outputs = [photograph, frame, shorter_side, editor], [status, gallery, files, actions]
        page.load(lambda: take(str(SAMPLE)), None, taken)
        upload.upload(take, upload, taken)
        shorter_side.release(lambda taken, side: frame_of(taken[0], side), [photograph, shorter_side], frame)
        common: dict[str, Any] = {"concurrency_id": "networks", "concurrency_limit": 1, "show_progress": "minimal",
                                  "show_progress_on": status}
        runs = [grow_button.click(grow, [photograph, frame, label, seed_box, attempts, shorter_side], outputs, **common),
                fill_button.click(fill, [photograph, editor, label, seed_box, attempts], outputs, **common)]
        for run in runs:
            run.success(lambda: 0, None, chosen).then(download, [files, chosen, kind], save)
        cancel.click(lambda: "<p>Cancelled.</p>", None, status, cancels=runs, queue=False)

        def choose(event: gr.SelectData) -> int:
            return event.index

        gallery.select(choose, None, chosen).then(download, [files, chosen, kind], save)
        kind.change(download, [files, chosen, kind], save)
        further.click(grow_further, [files, chosen], taken)
    return page
