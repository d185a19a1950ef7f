"""A page in the browser that grows skies and fills holes.

  python app.py
  python app.py --port 8000 --threads 4

Open the address that it prints. The page is for this computer only, unless --share_on_network is given, and sends
nothing to others. Ctrl+C ends it. It needs Gradio: pip install -r requirements-app.txt
"""
import argparse
import os
from pathlib import Path
from tempfile import TemporaryDirectory

from decoding.inpainter import Inpainter
from networks.machine import add_machine_options
from outpainting import add_model_options, load_outpainter
from utilities import UserError, command_parser, number, run_command

LARGEST_UPLOAD = "1gb"


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    group = parser.add_argument_group("page")
    group.add_argument("--port", type=number(int, 1, 2**16 - 1), default=7860, metavar="N", help="port of the page")
    group.add_argument("--share_on_network", action="store_true",
                       help="let other computers of the network use the page; there is no password")
    add_model_options(parser)
    add_machine_options(parser)
    return parser


def main(args: argparse.Namespace) -> None:
    with TemporaryDirectory(prefix="skies_") as folder:
        # Gradio reads these when it is imported.
        os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "GRADIO_TEMP_DIR": folder}
        try:
            import gradio  # noqa: F401
        except ImportError:
            raise UserError("the page needs Gradio: pip install -r requirements-app.txt") from None
        from page.layout import CSS, THEME, build_page

        page = build_page(load_outpainter(args, Inpainter), args.seed, Path(folder))
        page.launch(server_name="0.0.0.0" if args.share_on_network else "127.0.0.1", server_port=args.port,
                    prevent_thread_lock=True, quiet=True, share=False, show_error=True, run_history=False,
                    ssr_mode=False, footer_links=[], max_file_size=LARGEST_UPLOAD, css=CSS, theme=THEME)
        print(f"Open http://127.0.0.1:{args.port} in a browser on this computer. Ctrl+C ends the page.", flush=True)
        try:
            page.block_thread()
        finally:
            page.close()


if __name__ == "__main__":
    run_command(main, build_parser())
