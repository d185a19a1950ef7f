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
from decoding.growth import SIDES
from decoding.inpainter import Inpainter
from outpainting import shortened
from page import jobs
from utilities import ROOT, UserError, explained

SAMPLE = ROOT / "outpaint" / "cumulus.jpg"
TITLE = """# Grow a sky
Drop a photograph of clouds, drag the frame to where the sky should end, and press **Grow the sky**.
Everything happens on this computer: your pictures are sent nowhere."""
SHORTER_SIDE, LONGEST_SHORTER_SIDE = 512, 4096  # pixels of a photograph in the result: at first, and at most
LONGEST_PAINTED = 1000  # pixels along the longer side of the picture that is painted on
AROUND = 256  # new pixels at each side, at first
ANY = "as in the photograph"
EMPTY = "<p>The new sky will appear here.</p>"
HERE = Path(__file__).parent
FONT = gr.themes.LocalFont("Source Sans Pro", weights=(400, 700)), gr.themes.Font("sans-serif")
THEME = gr.themes.Default(primary_hue="sky", font=FONT)
CSS = """
.gradio-container { max-width: 1360px !important; }
.preview { display: block; width: 100%; max-height: 560px; object-fit: contain; border-radius: 8px; }
.progress p { margin: 10px 0 6px; }
.progress .bar { height: 10px; border-radius: 5px; background: #e2e8f0; overflow: hidden; }
.progress .bar div { height: 100%; background: #0284c7; transition: width 0.3s; }
"""


def data_url(picture: np.ndarray) -> str:
    """A picture uint8 [H, W, 3] as a JPEG in a URL."""
    file = BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def progress(job: jobs.Job) -> str:
    """What a job does, as HTML."""
    attempt = f"Attempt {len(job.results) + 1}. " if job.results else ""
    return (f'<div class="progress"><p>{attempt}{escape(job.stage)} …</p>'
            f'<div class="bar"><div style="width: {job.share:.1%}"></div></div></div>')


def preview_of(picture: np.ndarray | None) -> str:
    """The picture of a job, uint8 [H, W, 3] or None, as HTML."""
    if picture is None:
        return ""
    return f'<img class="preview" src="{data_url(jobs.shown(picture))}" alt="The sky so far">'


def refused(error: Exception) -> gr.Error:
    """What the browser shows about wrong input."""
    return gr.Error(explained(error), print_exception=False)


def given(photograph: tuple | None) -> tuple:
    """The photograph of the page, as (pixels, name). Raises UserError if there is none."""
    if photograph is None:
        raise UserError("There is no photograph: drop one first.")
    return photograph


def frame_of(photograph: np.ndarray, shorter_side: float, around: int | None = None) -> gr.HTML:
    """The frame around a photograph uint8 [H, W, 3]. around: new pixels at each side, None = as they are."""
    height, width = jobs.size_in_result(photograph, round(shorter_side) // SCALE)
    value = {} if around is None else {"value": dict.fromkeys(SIDES, around)}
    return gr.HTML(photograph=data_url(jobs.shown(photograph)), width=width, height=height, **value)


def take(path: str | None, shorter_side: int | None = None) -> tuple:
    """Make a file the photograph of the page: (its pixels and name, frame, shorter side in the result, editor)."""
    try:
        photograph = jobs.read_upload(str(path))
    except UserError as error:
        raise refused(error) from None
    shorter_side = min(shorter_side or SHORTER_SIDE, LONGEST_SHORTER_SIDE)
    return ((photograph, shortened(Path(str(path)).stem)), frame_of(photograph, shorter_side, AROUND), shorter_side,
            {"background": jobs.shown(photograph, LONGEST_PAINTED), "layers": [], "composite": None})


def download(files: list[str], chosen: int, kind: str) -> gr.DownloadButton:
    """The button that saves the chosen result as a file of this kind."""
    path = Path(files[chosen])
    return gr.DownloadButton(f"Download attempt {chosen + 1} as {kind}",
                             value=str(path if kind == "PNG" else jobs.as_tiff(path)))


def further(files: list[str], chosen: int) -> tuple:
    """Make the chosen result the photograph of the page, without scaling it: as `take`."""
    with Image.open(files[chosen]) as image:
        return take(files[chosen], min(image.size))


def build_page(inpainter: Inpainter, seed: int, folder: Path) -> gr.Blocks:
    """The page. seed: at first. folder: for results; Gradio may send files from it."""
    with gr.Blocks(title="Grow a sky", analytics_enabled=False, delete_cache=(3600, 86400)) as page:
        photograph, files, chosen = gr.State(), gr.State([]), gr.State(0)
        gr.Markdown(TITLE)
        with gr.Row():
            with gr.Column(scale=5):
                upload = gr.File(label="Photograph", show_label=False, height=130, elem_id="upload")
                with gr.Tab("Grow"):
                    frame = gr.HTML(dict.fromkeys(SIDES, 0), photograph="", width=0, height=0, apply_default_css=False,
                                    html_template=(HERE / "frame.html").read_text(),
                                    css_template=(HERE / "frame.css").read_text(),
                                    js_on_load=(HERE / "frame.js").read_text(), elem_id="frame")
                    grow_button = gr.Button("Grow the sky", variant="primary", elem_id="grow")
                with gr.Tab("Fill a hole"):
                    gr.Markdown("Paint over what should become sky: a bird, a wire, a logo.")
                    editor = gr.ImageEditor(label="Photograph", sources=(), transforms=(), layers=False, format="png",
                                            height=400, buttons=[], elem_id="editor",
                                            brush=gr.Brush(24, colors=["#ff3366"], color_mode="fixed"))
                    fill_button = gr.Button("Fill what is painted", variant="primary", elem_id="fill")
                with gr.Row():
                    label = gr.Dropdown([ANY, *inpainter.maskgit_config["classes"]], value=ANY, label="Kind of sky")
                    attempts = gr.Slider(1, 4, 1, step=1, label="Attempts", info="different skies to choose from",
                                         elem_id="attempts")
                with gr.Accordion("More settings", open=False):
                    seed_box = gr.Number(seed, label="Seed", precision=0, minimum=0, maximum=2**31 - 1,
                                         info="the same number gives the same sky")
                    shorter_side = gr.Slider(128, LONGEST_SHORTER_SIDE, SHORTER_SIDE, step=SCALE,
                                             label="Photograph's shorter side in the result (pixels)",
                                             info="more keeps more detail and takes longer")
            with gr.Column(scale=6):
                preview, status = gr.HTML(elem_id="preview", visible=False), gr.HTML(EMPTY, elem_id="status")
                cancel = gr.Button("Cancel", visible=False, elem_id="cancel")
                gallery = gr.Gallery(label="Attempts", visible=False, object_fit="contain", height=560,
                                     buttons=["fullscreen"], interactive=False, elem_id="gallery")
                with gr.Row(visible=False, equal_height=True) as actions:
                    kind = gr.Radio(["PNG", "TIFF"], value="PNG", show_label=False, container=False, scale=2)
                    save = gr.DownloadButton("Download", variant="primary", elem_id="download", scale=2)
                    further_button = gr.Button("Grow this further", elem_id="further", scale=2)

        outputs = [preview, status, gallery, files, chosen, actions, kind, save, cancel]

        def with_results(paths: list[str]) -> dict:
            """The right side of the page when no job is running."""
            changes = {preview: gr.HTML(visible=False), status: "" if paths else EMPTY, files: paths, chosen: 0,
                       cancel: gr.Button(visible=False)}
            if not paths:
                return changes
            shown = gr.Gallery(paths, columns=min(len(paths), 2), selected_index=0 if len(paths) == 1 else None,
                               visible=True)
            return changes | {gallery: shown, actions: gr.Row(visible=True), kind: "PNG",
                              save: download(paths, 0, "PNG")}

        def watched(before: list[str], work: Callable[[jobs.Job], None]) -> Iterator[dict]:
            """Do the work of a job and show it; `before` are the results that are there already."""
            job, picture = jobs.Job(), None
            yield {status: progress(job), preview: gr.HTML("", visible=True), gallery: gr.Gallery(visible=False),
                   actions: gr.Row(visible=False)}
            try:
                for _ in job.run(work):
                    if picture is job.picture:
                        yield {status: progress(job)}
                    else:
                        picture = job.picture
                        yield {status: progress(job), preview: preview_of(picture)}
            except (UserError, MemoryError, OSError) as error:
                yield with_results(before)
                raise refused(error) from None
            yield with_results([str(path) for path in job.results])

        def grow(before: list[str], photograph: tuple | None, label: str, seed: int, attempts: int,
                 margins: dict[str, int], shorter_side: float) -> Iterator[dict]:
            def work(job: jobs.Job) -> None:
                picture, name = given(photograph)
                img_size = round(shorter_side) // SCALE
                growth = jobs.growth_of_frame(margins, jobs.size_in_result(picture, img_size), img_size,
                                              None if label == ANY else label)
                jobs.grow(job, inpainter, picture, name, growth, int(seed or 0), int(attempts), folder)

            yield from watched(before, work)

        def fill(before: list[str], photograph: tuple | None, label: str, seed: int, attempts: int,
                 drawn: dict[str, Any]) -> Iterator[dict]:
            def work(job: jobs.Job) -> None:
                picture, name = given(photograph)
                hole = jobs.hole_of_layers(drawn["layers"], picture.shape)
                jobs.fill(job, inpainter, picture, hole, name, None if label == ANY else label, int(seed or 0),
                          int(attempts), folder)

            yield from watched(before, work)

        def started_by(button: gr.Button, work: Callable[..., Iterator[dict]], more: list) -> Any:
            """One job runs at a time; others wait, and `status` shows their place in the queue."""
            begun = button.click(lambda: gr.Button(visible=True), None, cancel, queue=False)
            return begun.then(work, [files, photograph, label, seed_box, attempts, *more],
                              outputs, show_progress_on=status, concurrency_id="networks", concurrency_limit=1)

        def choose(event: gr.SelectData) -> int:
            return event.index

        taken = [photograph, frame, shorter_side, editor]
        if SAMPLE.exists():
            page.load(lambda: take(str(SAMPLE)), None, taken)
        upload.upload(take, upload, taken).then(lambda: None, None, upload, queue=False)
        shorter_side.release(lambda taken, side: frame_of(given(taken)[0], side), [photograph, shorter_side], frame)
        jobs_of_page = [started_by(grow_button, grow, [frame, shorter_side]), started_by(fill_button, fill, [editor])]
        cancel.click(with_results, files, outputs, cancels=jobs_of_page, queue=False)
        gallery.select(choose, None, chosen).then(download, [files, chosen, kind], save)
        kind.input(download, [files, chosen, kind], save)
        further_button.click(further, [files, chosen], taken)
    return page
