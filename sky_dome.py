"""Paint the whole sky above the horizon from one photograph, for renderers.

  python sky_dome.py --input sky.jpg --fov 60
  python sky_dome.py --input sky.jpg --fov 75 --elevation 30 --width 4096 --seed 7

The result is an equirectangular panorama of 360 x 180 degrees. The photograph is in its middle, the horizon at half its
height, and the zenith at its top. --fov is the horizontal field of view of the photograph, which shows sky only. A
strip around the horizon is grown from the photograph until it closes, and the cap above it is painted in a view of the
zenith, so that nothing converges there. Below the horizon, its colour continues. Results in sky_dome_results/:
<name>_dome.png, and <name>.json with the options.
"""
import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from archive.pictures import read_picture
from decoding.canvas import SCALE
from decoding.growth import SIZE, Growth, add_growth_options, growth_of
from decoding.inpainter import Inpainter
from decoding.sky_dome import painted_dome, vertical_fov
from log_and_save import write_json
from networks.machine import add_machine_options
from outpainting import add_model_options, bars_of, load_outpainter, shortened
from utilities import UserError, command_parser, number, options_of, run_command, save_picture, writable_folder

WITHOUT = SIZE, "decoding", "samples"  # settings of outpainting.py that have no option here


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    group = parser.add_argument_group("dome")
    group.add_argument("--input", type=Path, required=True, metavar="FILE", help="photograph of sky only")
    group.add_argument("--fov", type=number(float, 10, 120), required=True, metavar="DEG",
                       help="horizontal field of view of the photograph in degrees, 10 to 120")
    group.add_argument("--elevation", type=number(float, 0, 90), metavar="DEG",
                       help="elevation of the photograph's centre above the horizon in degrees (default: its lower "
                            "border is at the horizon)")
    group.add_argument("--width", type=number(int, 1, 32768), default=2048, metavar="PX",
                       help="width of the panorama in pixels, a multiple of 128 (256 with --shrink 8); its height is "
                            "half of it")
    group.add_argument("--img_size", type=number(int, 32, 4096), default=128, metavar="PX",
                       help="about the shorter side of the photograph in low-resolution pixels while the sky is "
                            "painted around it; less is faster and softer")
    group.add_argument("--output", type=Path, default=Path("sky_dome_results"), metavar="FOLDER",
                       help="folder of the results")
    add_growth_options(parser, without=WITHOUT)
    add_model_options(parser)
    add_machine_options(parser)
    return parser


def elevation_of(shape: Sequence[int], fov: float, elevation: float | None) -> float:
    """Elevation of the centre of a photograph of shape (height, width), in degrees. Raises UserError if it reaches
    beyond the zenith."""
    half = np.degrees(vertical_fov(shape, np.radians(fov))) / 2
    centre = half if elevation is None else elevation
    if centre + half > 90:
        raise UserError(f"the photograph would reach beyond the zenith: with --fov {fov:g} it is {2 * half:.1f} "
                        f"degrees high, and the elevation of its centre is {centre:.1f} degrees.")
    return float(centre)


def check_width(width: int, inpainter: Inpainter, growth: Growth) -> None:
    """Raise UserError if a panorama of this width cannot be painted."""
    multiple, least = inpainter.closing_width(growth), SCALE * inpainter.downscale * inpainter.window
    if width < least or width % multiple:
        raise UserError(f"--width {width} does not close: expected a multiple of {multiple} pixels, at least {least}.")


def dome_of(photograph: NDArray[np.uint8], fov: float, elevation: float, width: int, inpainter: Inpainter,
            growth: Growth, seed: int) -> NDArray[np.uint8]:
    """The panorama uint8 [width / 2, width, 3] around a photograph uint8 [H, W, 3]. fov, elevation: in degrees."""
    def paint(picture: NDArray[np.uint8], margins: Sequence[int], closes: bool) -> NDArray[np.uint8]:
        settings = replace(growth, wrap=closes).around(picture.shape, margins)
        low, large = next(inpainter.grow(picture, settings, seed, bar=bars_of("strip" if closes else "photograph")))
        return large.whole() if large else low

    def fill(picture: NDArray[np.uint8], hole: NDArray[np.bool_]) -> NDArray[np.uint8]:
        return next(inpainter.inpaint(picture, hole, growth, seed, bar=bars_of("zenith")))

    return painted_dome(photograph, fov, elevation, width, SCALE * growth.img_size, paint, fill)


def main(args: argparse.Namespace) -> None:
    photograph = read_picture(args.input)
    elevation = elevation_of(photograph.shape, args.fov, args.elevation)
    growth = growth_of(args)
    output = writable_folder(args.output)
    inpainter = load_outpainter(args, Inpainter)
    inpainter.class_number(growth.label)
    check_width(args.width, inpainter, growth)
    name = shortened(args.input.stem)
    save_picture(output / f"{name}_dome.png",
                 dome_of(photograph, args.fov, elevation, args.width, inpainter, growth, args.seed))
    options = options_of(args)
    write_json(output / f"{name}.json", {"picture": name, "elevation": elevation, "options": options,
                                         "precision": inpainter.precision, "models": inpainter.fingerprints})
    print(output / f"{name}_dome.png", output / f"{name}.json", sep="\n")


def command() -> None:
    """Run the command with the arguments of the process."""
    run_command(main, build_parser())


if __name__ == "__main__":
    command()
