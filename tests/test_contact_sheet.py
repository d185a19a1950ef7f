"""contact_sheet.py on files in the format of outpainting.py."""
import json

import numpy as np
import pytest

from archive.pictures import read_picture
from contact_sheet import build_parser, main
from utilities import UserError, save_picture

GAP = 6


def write_results(folder, colours, upsampled=True):
    """A source of 64 x 96 pixels, and results of these grey levels, larger by its height on every side."""
    folder.mkdir()
    save_picture(folder / "sky_source.png", np.full((64, 96, 3), 10, np.uint8))
    kind, scale = ("4x", 4) if upsampled else ("low", 1)
    for attempt, colour in enumerate(colours):
        save_picture(folder / f"sky_{attempt}_{kind}.png", np.full((96 * scale, 112 * scale, 3), colour, np.uint8))
        options = {"generate_upsampled": upsampled, "img_size": 32}
        (folder / f"sky_{attempt}.json").write_text(json.dumps({"picture": "sky", "options": options}))
    return folder


def sheet_of(tmp_path, *folders):
    output = tmp_path / "sheet.png"
    main(build_parser().parse_args(["--results", *map(str, folders), "--height", "48", "--output", str(output)]))
    return read_picture(output)


@pytest.mark.parametrize("upsampled", [True, False])
def test_a_source_is_as_large_as_inside_its_result(tmp_path, upsampled):
    sheet = sheet_of(tmp_path, write_results(tmp_path / "one", [100, 200], upsampled))
    assert sheet.shape == (48 + GAP, 24 + 56 + 56 + 3 * GAP, 3)
    assert (sheet[16:32, :24] == 10).all()
    assert (sheet[:15, :24] == 255).all()
    assert [int(sheet[24, column, 0]) for column in (40, 110)] == [100, 200]


def test_results_of_several_folders_are_in_one_row(tmp_path):
    folders = [write_results(tmp_path / name, [colour]) for name, colour in (("b", 50), ("a", 150))]
    sheet = sheet_of(tmp_path, *folders)
    assert sheet.shape[0] == 48 + GAP
    assert [int(sheet[24, column, 0]) for column in (40, 110)] == [50, 150]


def test_a_folder_without_results_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no results"):
        sheet_of(tmp_path, write_results(tmp_path / "one", [100]), tmp_path / "empty")
