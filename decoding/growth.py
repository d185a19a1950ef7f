"""Settings of outpainting. Each is a field of Growth and an option of outpainting.py."""
import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any

from decoding.canvas import SCALE
from decoding.token_decoding import ORDERS, SCHEDULES
from utilities import UserError, number

SIZE = "size (pixels are those of the 4x result; a step is --outpaint_step windows, by default 256 pixels)"
SKY, TOKENS, PIXELS = "sky", "advanced: tokens", "advanced: pixels"
SIDES = ("top", "bottom", "left", "right")


def side_length(text: str) -> float | str:
    """An argparse type: a number of steps, or pixels such as 300px."""
    if re.fullmatch(r"\d{1,6}px", text):
        return text
    try:
        return number(float, 0, 100)(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, or pixels such as 300px") from None


def pair_of_numbers(between: str, example: str) -> Callable[[str], str]:
    """An argparse type: two whole numbers from 1 to 999,999 with this character between them."""
    def parse(text: str) -> str:
        if not re.fullmatch(rf"[1-9]\d{{0,5}}{between}[1-9]\d{{0,5}}", text):
            raise argparse.ArgumentTypeError(f"{text!r} is not like {example}")
        return text

    return parse


def setting(group: str, default: Any, text: str, kind: Callable | None = None, metavar: str | None = None,
            choices: tuple = ()) -> Any:
    """A field of Growth with the data of its option. kind: an argparse type, which also checks values in Python."""
    return field(default=default, metadata={"group": group, "help": text, "type": kind, "metavar": metavar,
                                            "choices": choices})


@dataclass(frozen=True)
class Growth:
    """Settings of outpainting. `python outpainting.py --help` explains each field and its range; other values raise
    UserError.

    With size or aspect, the picture is in the middle of a result of this size, or of the smallest one of this aspect.
    With left, right, top or bottom, the picture grows only on these sides, otherwise by outpaint_range on every side.
    The unit is a step: outpaint_step times the window of the network, or by default the network's usual step.
    """

    outpaint_range: float = setting(SIZE, 1, "steps to grow on every side", number(float, 0, 100), "R")
    sides_only: bool = setting(SIZE, False, "grow to the left and right only")
    left: float | str | None = setting(SIZE, None, "steps to grow on the left, or pixels such as 300px; if any of "
                                       "--left, --right, --top and --bottom is given, the other sides do not grow",
                                       side_length, "R")
    right: float | str | None = setting(SIZE, None, "the same on the right", side_length, "R")
    top: float | str | None = setting(SIZE, None, "the same at the top", side_length, "R")
    bottom: float | str | None = setting(SIZE, None, "the same at the bottom", side_length, "R")
    size: str | None = setting(SIZE, None, "size of the result in pixels, with the picture in its middle",
                               pair_of_numbers("x", "1920x1080"), "WIDTHxHEIGHT")
    aspect: str | None = setting(SIZE, None, "the smallest result of this aspect, with the picture in its middle",
                                 pair_of_numbers(":", "16:9"), "W:H")
    wrap: bool = setting(SIZE, False, "the left and right ends of the result meet, as in a panorama of the whole "
                         "horizon; its width is rounded up to a multiple of 128 pixels (256 with --shrink 8)")
    img_size: int = setting(SIZE, 128, "shorter side of the picture in low-resolution pixels; the 4x result is four "
                            "times as large", number(int, 32, 4096), "PX")
    outpaint_step: float | None = setting(SIZE, None, "part of the network's window that is new in each step (default: "
                                          "64 low-resolution pixels for the shipped network)", number(float, 0.1, 0.9),
                                          "S")
    generate_upsampled: bool = setting(SIZE, True, "compute the 4x result")
    label: str | None = setting(SKY, None, "kind of the new sky, such as cumulus; an unknown name lists all names",
                                str, "NAME")
    guidance: float | None = setting(SKY, None, "weight of the classifier-free guidance by the picture and --label; "
                                     "0 = no guidance, in half the time (default: 1 with --label, otherwise 0)",
                                     number(float, 0, 10), "W")
    temperature: float = setting(SKY, 0.8, "temperature of the tokens' distribution: 0 = most probable token, 1 = as "
                                 "learned", number(float, 0, 10), "T")
    decoding: str = setting(TOKENS, "full", "full = ring by ring (thesis); joint = the whole canvas at once; simple = "
                            "ring by ring, in one pass with the most probable tokens",
                            choices=("full", "joint", "simple"))
    token_scale: int = setting(TOKENS, 2, "tokens are painted at N times the low resolution, 1, 2 or 4, at most at "
                               "that of the picture, and at most --shrink; 1 = thesis, fast and soft", int, "N",
                               choices=(1, 2, 4))
    maskgit_steps: int = setting(TOKENS, 12, "decoding steps for half a window (with joint: for each ring); a sky that "
                                 "grows takes half of them after its coarsest tokens", number(int, 1, 1000), "N")
    repaints: int = setting(TOKENS, 8, "rounds in which a random half of the coarsest new tokens is hidden and painted "
                            "again; 0 = thesis", number(int, 0, 1000), "N")
    schedule: str = setting(TOKENS, "arccos", "function that sets how many tokens are decided in each step",
                            choices=SCHEDULES)
    order: str = setting(TOKENS, "halton", "order in which the tokens of a window are decided: halton = far apart, "
                         "confidence = most probable first (joint always takes halton)", choices=ORDERS)
    generation_temp: float = setting(TOKENS, 4.0, "noise of --order confidence: 1 gives few details, 10 strange clouds",
                                     number(float, 0, 1000), "T")
    shrink: int = setting(PIXELS, 4, "the decoded picture is shrunk to 1/N of its size before octaves are added: "
                          "2, 4 or 8", int, "N", choices=(2, 4, 8))
    diffusion_steps: int = setting(PIXELS, 12, "steps of the super sampler in the first octave; the others take a "
                                   "third of them", number(int, 1, 1000), "N")
    samples: float = setting(PIXELS, 2, "overlap of decoded windows, for tokenizers that need it (--preset thesis)",
                             number(float, 1, 8), "N")
    batch_size: int = setting(PIXELS, 8, "windows computed at once; does not change the result", number(int, 1, 4096),
                              "N")

    def __post_init__(self) -> None:
        for each in fields(self):
            check(each, getattr(self, each.name))
        given = [name for name in ("size", "aspect", *SIDES) if getattr(self, name) is not None]
        if len(given) > 1 and not set(given) <= set(SIDES):
            raise UserError(f"--{given[0]} and --{given[1]} cannot be combined.")

    def step(self, window: int, usual: int | None = None) -> float:
        """Length of a step in tokens. window: side of the network's window in tokens. usual: length of the network's
        usual step in tokens, or None for half the window."""
        return self.outpaint_step * window if self.outpaint_step else usual or window / 2

    def margins(self, shape: Sequence[int], unit: int, window: int,
                usual: int | None = None) -> tuple[int, int, int, int]:
        """Pixels of the 4x result to add at (top, bottom, left, right). Steps are rounded to whole tokens.

        shape: (height, width) of the picture in the 4x result. unit: pixels of the 4x result along each token. window,
        usual: as for `step`. Raises UserError if the picture is larger than `size`.
        """
        if self.size or self.aspect:
            height, width = self._sides(*shape)
            if height < shape[0] or width < shape[1]:
                raise UserError(f"--size {self.size} is smaller than the picture, which has {shape[1]}x{shape[0]} "
                                "pixels in the result: give a larger --size, or a smaller --img_size.")
            rows, columns = height - shape[0], width - shape[1]
            return rows // 2, rows - rows // 2, columns // 2, columns - columns // 2
        steps = [getattr(self, side) for side in SIDES]
        if all(each is None for each in steps):
            steps = [0 if self.sides_only else self.outpaint_range] * 2 + [self.outpaint_range] * 2
        step = self.step(window, usual)
        top, bottom, left, right = (int(each.removesuffix("px")) if isinstance(each, str) and each.endswith("px")
                                    else round(float(each or 0) * step) * unit for each in steps)
        return top, bottom, left, right

    def around(self, shape: Sequence[int], margins: Sequence[int]) -> "Growth":
        """The same settings for a picture of shape (height, width), which is not scaled and grows by these pixels at
        (top, bottom, left, right)."""
        sides: dict[str, Any] = {side: f"{margin}px" for side, margin in zip(SIDES, margins, strict=True)}
        return replace(self, size=None, aspect=None, img_size=min(shape[:2]) // SCALE, **sides)

    def closed(self, margins: Sequence[int], width: int, multiple: int, least: int) -> tuple[int, int, int, int]:
        """The margins of a result whose left and right ends meet, widened to the next width_around; with `size`, the
        width must be one already. All in pixels of the 4x result; width: of the picture. Raises UserError."""
        top, bottom, left, right = margins
        given = width + left + right
        added = width_around(given, multiple, max(least, width + multiple // 2), bool(self.size)) - given
        return top, bottom, left + added // 2, right + added - added // 2

    def _sides(self, height: int, width: int) -> tuple[int, int]:
        """(Height, width) of the result that `size` or `aspect` asks for, around a picture of height x width pixels."""
        if self.size:
            columns, rows = map(int, self.size.split("x"))
            return rows, columns
        across, down = map(int, str(self.aspect).split(":"))
        return max(height, -(-width * down // across)), max(width, -(-height * across // down))

    def ring(self, window: int, usual: int | None = None) -> int:
        """Depth of a step in tokens, at least one. window, usual: as for `step`."""
        return max(1, round(self.step(window, usual)))


def width_around(width: int, multiple: int, least: int, exactly: bool) -> int:
    """The next multiple of `multiple` that is at least `width` and `least`: a width of a result whose ends meet.

    Raises UserError if this is not `width` itself and exactly is true.
    """
    wanted = max(width, least)
    wanted += -wanted % multiple
    if exactly and wanted != width:
        below = wanted - multiple
        nearest = f"{below} or {wanted}" if below >= least else str(wanted)
        raise UserError(f"--wrap: a width of {width} pixels does not close; the nearest widths that do: {nearest}.")
    return wanted


def check(each: Field, value: Any) -> None:
    """Raise UserError if the value is not allowed for this field of Growth."""
    choices, kind = each.metadata["choices"], each.metadata["type"]
    if value is None and each.default is None:
        return
    if choices and value not in choices:
        raise UserError(f"{each.name}={value!r}: expected {', '.join(map(str, choices))}.")
    if kind:
        try:
            kind(str(value))
        except argparse.ArgumentTypeError as error:
            raise UserError(f"{each.name}: {error}.") from None


def add_growth_options(parser: argparse.ArgumentParser, without: tuple = ()) -> None:
    """Add an option for each field of Growth, except the fields and groups whose names are in `without`."""
    groups: dict[str, Any] = {}
    for each in fields(Growth):
        data = each.metadata
        if data["group"] in without or each.name in without:
            continue
        if data["group"] not in groups:
            groups[data["group"]] = parser.add_argument_group(data["group"])
        given = {name: data[name] for name in ("type", "metavar", "choices") if data[name]}
        if isinstance(each.default, bool):
            given["action"] = argparse.BooleanOptionalAction
        groups[data["group"]].add_argument(f"--{each.name}", default=each.default, help=data["help"], **given)


def growth_of(args: argparse.Namespace) -> Growth:
    """The Growth of a command line. Fields without an option have their defaults."""
    given: dict[str, Any] = {each.name: getattr(args, each.name, each.default) for each in fields(Growth)}
    return Growth(**given)
