"""Sky masks: every step on small arrays, synthetic cameras from frames to masks, the command, real cameras."""
import argparse
import os
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

import segmentation
from archive import sky_masks
from archive.sky_masks import (
    PAIRS,
    Statistics,
    calm_regions,
    choose_pair,
    clipped_slopes,
    closed,
    drop_small_masked,
    fill_below,
    fill_small_sky,
    filled_downwards,
    final_mask,
    frame_mask,
    gradient_mask,
    grown,
    mask_boxes,
    overlay_boxes,
    sky_between,
    sky_mask,
    split_overlays,
    static_edges,
    thesis_boxes,
    thesis_mask,
    unlikeness,
    with_margin,
)
from utilities import UserError

HEIGHT, WIDTH = 240, 320
LOGO = np.s_[6:26, 8:60]
REAL = segmentation.ROOT.parent / "shared" / "data" / "webcams"


def array(text):
    """Bool [H, W] from lines in which # is True."""
    return np.array([[letter == "#" for letter in line] for line in text.split()])


# ---------------------------------------------------------------------------------------------------------------------
# Synthetic cameras


def skyline(width=WIDTH):
    """First row of the landscape in each column: hills and a tower."""
    x = np.arange(width)
    rows = 150 + 14 * np.sin(x / 40) + 6 * np.sin(x / 13)
    rows[200:230] = 90
    return rows.astype(int)


def true_sky():
    sky = np.arange(HEIGHT)[:, None] < skyline()
    sky[LOGO] = False
    return sky


def draw_frames(count, seed=0, seen=1.0, logo=True):
    """Frames of a camera: moving clouds, textured hills seen in a share of the frames, a logo with a counter."""
    rng = np.random.default_rng(seed)
    texture = rng.integers(-50, 50, (HEIGHT, WIDTH, 1))
    noise = cv2.GaussianBlur(rng.normal(0, 1, (2 * HEIGHT, 8 * WIDTH)), (0, 0), 9)
    noise /= noise.std()
    land = ~(np.arange(HEIGHT)[:, None] < skyline())
    near = np.arange(HEIGHT)[:, None] >= 200
    for number in range(count):
        row, column = rng.integers([HEIGHT, 7 * WIDTH])
        cloud = np.clip(noise[row:row + HEIGHT, column:column + WIDTH] - 0.3, 0, 1)[..., None]
        frame = np.float32([110, 150, 220]) * (1 - cloud) + 235 * cloud
        frame = frame * rng.uniform(0.75, 1)
        visible = land if number < seen * count else near
        frame = cv2.GaussianBlur(np.where(visible[..., None], 90 + texture, frame), (0, 0), 0.7)  # of the lens
        frame = (frame + rng.normal(0, 1, frame.shape)).clip(0, 255).astype(np.uint8)
        if logo:
            frame[LOGO] = 20
            cv2.putText(frame, f"CAM{number % 10}", (10, 22), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1)
        yield np.ascontiguousarray(frame)


def statistics_of(frames):
    statistics = None
    for frame in frames:
        statistics = statistics or Statistics.empty(frame.shape[:2])
        statistics.add(frame, frame_mask(frame), *clipped_slopes(frame))
    return statistics


def quality(masked, sky):
    """Intersection over union of the sky, and the share of the sky found that is not sky."""
    found = ~masked
    return (found & sky).sum() / (found | sky).sum(), (found & ~sky).sum() / max(1, found.sum())


@pytest.fixture(scope="module")
def camera():
    return statistics_of(draw_frames(40))


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Two places with two days each; one also has a dark, a broken, a cut and a small frame."""
    folder = tmp_path_factory.mktemp("archive")
    for place, seed in (("north", 1), ("south", 2)):
        for number, frame in enumerate(draw_frames(24, seed)):
            day = folder / place / f"2024-05-{1 + number // 12:02}"
            day.mkdir(parents=True, exist_ok=True)
            Image.fromarray(frame).save(day / f"{number:04}.jpg", quality=92)
    day = folder / "south" / "2024-05-01"
    Image.new("RGB", (WIDTH, HEIGHT), (9, 9, 12)).save(day / "night.jpg")
    Image.new("RGB", (64, 48), "white").save(day / "small.jpg")
    (day / "broken.jpg").write_bytes(b"no picture")
    data = (day / "0000.jpg").read_bytes()
    (day / "cut.jpg").write_bytes(data[:len(data) // 2])
    return folder


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(segmentation, "RESULTS", tmp_path / "results")
    return tmp_path


def run(*options):
    parser = segmentation.build_parser()
    segmentation.run_command(segmentation.main, parser, ["--wandb", "disabled", *map(str, options)])


# ---------------------------------------------------------------------------------------------------------------------
# One frame


def test_gradient_mask_is_the_sum_over_both_directions_averaged_over_the_colours():
    frame = np.full((3, 4, 3), 100, np.uint8)
    frame[1, 2] = 100, 109, 107  # 16 in all is above 3 x 255 x 0.02 = 15.3
    expected = array(".... .##. ..#.") | array("..#. .... ....")
    expected[2] = False  # the pixel below has no difference to the right or downwards
    np.testing.assert_array_equal(gradient_mask(frame, 0.02), expected)
    frame[1, 2] = 100, 107, 108  # 15 is not, but both directions of the pixel itself are 30
    np.testing.assert_array_equal(gradient_mask(frame, 0.02), array(".... ..#. ...."))


def test_gradient_mask_equals_the_formula_on_noise():
    frame = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    values = frame / 255
    gradient = np.zeros((20, 30, 3))
    gradient[:, :-1] += np.abs(np.diff(values, axis=1))
    gradient[:-1] += np.abs(np.diff(values, axis=0))
    np.testing.assert_array_equal(gradient_mask(frame, 0.3), gradient.mean(axis=2) > 0.3)


def test_closing_joins_what_is_near_and_keeps_the_rest():
    mask = np.zeros((9, 30), bool)
    mask[4, [5, 9, 20]] = True
    found = closed(mask, 2)
    expected = mask.copy()
    expected[4, 5:10] = True
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(closed(mask, 1), mask)


def test_small_regions_are_filled_and_dropped():
    mask = array("#####.... #...#.##. #.#.#.... #####...#")
    filled = fill_small_sky(mask, 6)
    np.testing.assert_array_equal(filled, array("#####.... #####.##. #####.... #####...#"))
    np.testing.assert_array_equal(drop_small_masked(mask, 4), array("#####.... #...#.... #.#.#.... #####...."))


def test_areas_follow_the_frame_size():
    for height, width, side in ((1200, 1600, 140), (300, 400, 34)):
        mask = np.ones((height, width), bool)
        mask[10:10 + side, 10:10 + side] = False
        assert sky_masks.without_small_regions(mask).all()
        mask[10:20 + side, 10:20 + side] = False
        assert not sky_masks.without_small_regions(mask).all()


def test_boxes_count_from_either_border_and_may_leave_the_frame():
    found = mask_boxes(np.zeros((4, 6), bool), [(0, 0, 2, 1), (-2, -1, 9, 9), (3, -9, 1, 7)])
    np.testing.assert_array_equal(found, array("##.#.. ...#.. ...... ....##"))
    assert thesis_boxes((1200, 1600)) == [(0, 0, 270, 115), (-250, 0, 250, 250)]
    assert thesis_boxes((600, 800)) == [(0, 0, 135, 58), (-125, 0, 125, 125)]


# ---------------------------------------------------------------------------------------------------------------------
# Many frames


def test_share_and_longest_run_are_counted():
    frame = np.zeros((2, 3, 3), np.uint8)
    statistics = Statistics.empty((2, 3))
    for row in ("###", "##.", "#.#", "##.", "##.", "##."):
        statistics.add(frame, array(f"{row} ..."), *clipped_slopes(frame))
    np.testing.assert_array_equal(statistics.longest, [[6, 3, 1], [0, 0, 0]])
    np.testing.assert_allclose(statistics.share, [[1, 5 / 6, 2 / 6], [0, 0, 0]])
    statistics.masked, statistics.longest = statistics.masked[:1], statistics.longest[:1]
    np.testing.assert_array_equal(final_mask(statistics.share, statistics.longest, 0.5, 2), [[True, True, False]])
    np.testing.assert_array_equal(final_mask(statistics.share, statistics.longest, 0.5, 3), [[True, False, False]])
    np.testing.assert_array_equal(final_mask(statistics.share, statistics.longest, 5 / 6, 2), [[True, False, False]])


def test_fill_below_takes_only_regions_that_span_the_width():
    mask = array(".##.. ..... ##... ..### ..... .....")
    np.testing.assert_array_equal(fill_below(mask), array(".##.. ..... ##... ##### ##### #####"))
    np.testing.assert_array_equal(fill_below(array("##.. .... ...#")), array("##.. .... ...#"))
    np.testing.assert_array_equal(filled_downwards(array(".#. ... #..")), array(".#. .#. ##."))


def test_slopes_are_signed_and_clipped():
    frame = np.full((2, 3, 3), 100, np.uint8)
    frame[0, 1] = 103, 90, 255
    (right, down), steepness = clipped_slopes(frame, 0.02)
    np.testing.assert_array_equal(right[0], [[3, -5, 5], [-3, 5, -5], [0, 0, 0]])
    np.testing.assert_array_equal(down[:, 1], [[-3, 5, -5], [0, 0, 0]])
    np.testing.assert_array_equal(steepness, [[13, 26, 0], [0, 0, 0]])


def test_static_edges_stay_when_signs_agree_or_flip_and_moving_ones_vanish():
    rng = np.random.default_rng(0)

    def frames():
        for number in range(60):
            frame = rng.integers(98, 103, (120, 160, 3)).astype(np.uint8)
            frame[:, 40:60] += np.uint8(40)  # always brighter
            frame[60:80, 100:140] += np.uint8([30, 226][number % 2])  # brighter or darker by 30
            place = rng.integers(5, 110)
            frame[place:place + 6, 70:90] += np.uint8(60)  # a cloud
            yield frame

    edges = static_edges(statistics_of(frames()))
    assert edges[20:100, 39].min() > 4 and edges[70, 99] > 2 and edges[59, 120] > 2
    assert np.quantile(edges[5:110, 72:88], 0.9) < 1 and np.median(edges) < 0.5


def test_statistics_come_back_from_disk(tmp_path, camera):
    camera.save(tmp_path / "place.npz")
    loaded = Statistics.load(tmp_path / "place.npz")
    assert loaded.frames == 40
    for name in ("masked", "longest", "slope_x", "steepness", "total", "squares", "brightest"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(camera, name))


# ---------------------------------------------------------------------------------------------------------------------
# The mask


def test_landscape_and_overlays_are_separated():
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[200:] = True
    mask[185:195, 50:70] = True  # a crown over the landscape
    logo, bar = np.zeros_like(mask), np.zeros_like(mask)
    logo[5:30, 250:300] = True
    bar[60:64, 100:140] = True  # something small in the middle of the sky
    landscape, overlays = split_overlays(mask | logo | bar)
    np.testing.assert_array_equal(landscape, mask)
    np.testing.assert_array_equal(overlays, logo | bar)
    landscape, overlays = split_overlays(np.arange(HEIGHT)[:, None].repeat(WIDTH, 1) // 6 == 1)
    assert overlays.any() and not landscape.any()  # a bar across the top
    assert not split_overlays(np.zeros_like(mask))[0].any()


def test_overlay_boxes_join_letters_and_reach_the_border():
    overlays = np.zeros((HEIGHT * 5, WIDTH * 5), bool)
    overlays[30:60, 40:70] = overlays[30:60, 80:110] = True
    overlays[600:640, 900:960] = True
    overlays[600:640, 920:960:2] = False
    overlays[600:630, 920:960] = False  # text: only its left side has an edge all along
    overlays[700:705, 100:105] = True  # too small
    assert overlay_boxes(overlays) == [(0, 0, 107, 57), (882, 582, 96, 76)]


def test_sky_grows_to_the_ridge_and_not_beyond():
    edges = np.tile(np.float32([0, 0, 1, 2, 5, 2, 9]), (5, 1)).T
    sky = np.zeros((7, 5), bool)
    sky[:2] = True
    np.testing.assert_array_equal(grown(sky, edges, steps=9)[:, 0], [1, 1, 1, 1, 1, 0, 0])
    np.testing.assert_array_equal(grown(sky, edges, steps=1)[:, 0], [1, 1, 1, 0, 0, 0, 0])


def test_shifts_are_measured_and_fog_has_none():
    scene = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8), (0, 0), 2)
    reference = sky_masks.outlines(scene)
    found = sky_masks.camera_shift(reference, sky_masks.outlines(sky_masks.moved(scene, (6, -4))))
    assert found == pytest.approx((6, -4), abs=1)
    assert sky_masks.camera_shift(reference, sky_masks.outlines(sky_masks.moved(scene, (2, 0)))) == (0, 0)
    assert sky_masks.camera_shift(reference, sky_masks.outlines(np.full_like(scene, 200))) == (0, 0)


def test_the_mask_of_a_moving_camera_is_valid_for_all_frames():
    statistics = Statistics.empty((HEIGHT, WIDTH))
    for number, frame in enumerate(draw_frames(60, seed=5, logo=False)):
        shift = (6, -4) if number % 2 else (0, 0)
        frame = sky_masks.moved(frame, shift)
        statistics.add(frame, frame_mask(frame), *clipped_slopes(frame), shift)
    sky = np.arange(HEIGHT)[:, None] < skyline()
    union, wrong = quality(sky_mask(statistics).masked, sky & sky_masks.moved(sky, (6, -4)))
    assert union > 0.93 and wrong < 0.005


def test_rare_shifts_are_left_out():
    shifts = np.array([[0, 0]] * 60 + [[5, 1]] * 36 + [[60, 1]] * 2 + [[0, -9]] * 2)
    np.testing.assert_array_equal(sky_masks.common_shifts(shifts), [[0, 0], [5, 1]])
    picture = np.arange(12).reshape(3, 4)
    np.testing.assert_array_equal(sky_masks.moved(picture, (1, -2)), [[8, 8, 9, 10]] * 3)


def test_edges_are_divided_by_the_noise_at_their_height():
    edges, sky = np.full((320, 10), 0.2, np.float32), np.ones((320, 10), bool)
    edges[160:] = 0.28
    sky[240:] = False
    found = sky_masks.evened(edges, sky)
    np.testing.assert_allclose(found[[0, 150, 170, 220, 300], 0], [0.2, 0.2, 0.2, 0.2, 0.28], rtol=0.15)


def test_corners_are_masked_where_landscape_reaches_the_border():
    landscape = np.zeros((HEIGHT, WIDTH), bool)
    landscape[5:50, 10:40] = landscape[100:] = True
    assert sky_masks.corner_boxes(landscape) == [(0, 0, 40, 50)]
    assert not sky_masks.corner_boxes(landscape & (np.arange(HEIGHT)[:, None] > 30))


def test_looks_are_mean_and_deviation_of_the_colours():
    frames = np.random.default_rng(0).integers(0, 256, (9, 4, 5, 3), np.uint8)
    looks = statistics_of(frames).looks
    np.testing.assert_allclose(looks, np.dstack([frames.mean(axis=0), frames.std(axis=0)]) / 255, atol=1e-4)


def test_unlikeness_is_to_the_sky_around():
    sky = np.zeros((HEIGHT, WIDTH), bool)
    sky[:60] = True
    looks = np.full((HEIGHT, WIDTH, 2), 0.5, np.float32)
    looks[62:64] = 0.4, 0.8
    looks[:, 200:] += np.float32(0.2)  # to the right of the frame the sky looks different
    found = unlikeness(looks, sky)
    assert np.abs(found[50, [20, 300]]).max() < 0.02 and found[190:].min() == np.inf
    np.testing.assert_allclose(found[63, 20], [-0.1, 0.3], atol=0.02)


def test_calm_regions_are_compared_with_the_sky_in_the_same_rows():
    steepness = np.float32([[9] * 8, [4] * 8, [4] * 8])
    regions = array("........ #..#.... ...##.##")
    steepness[1, 0], steepness[2, 6:] = 1, 1.9
    sky = array("######## .....### ........")
    np.testing.assert_array_equal(calm_regions(regions, steepness, sky), array("........ #....... ......##"))


def test_sky_between_looks_like_the_sky_around_and_ends_at_other_regions():
    looks, steepness = np.full((HEIGHT, WIDTH, 6), 0.5, np.float32), np.full((HEIGHT, WIDTH), 20, np.float32)
    sky, outside = np.ones((HEIGHT, WIDTH), bool), np.ones((HEIGHT, WIDTH), bool)
    sky[100:] = False
    looks[100:] = 0.9
    looks[101:112, 200:250] = 0.57  # haze: its surroundings are similar
    places = {name: np.s_[104:109, left:left + 30]
              for name, left in {"gap": 20, "wall": 65, "overlay": 110, "snow": 155, "haze": 210}.items()}
    for place in (*places.values(), np.s_[104:105, 280:283]):
        looks[place] = 0.52
    looks[places["snow"]] = 0.54
    steepness[places["wall"]] = 4
    outside[places["overlay"]] = False
    expected = np.zeros_like(sky)
    expected[places["gap"]] = True
    np.testing.assert_array_equal(sky_between(looks, steepness, sky, outside), expected)
    assert not sky_between(looks, steepness, np.zeros_like(sky), outside).any()


def test_the_margin_surrounds_the_mask_and_fills_tiny_gaps():
    mask = np.ones((HEIGHT, WIDTH), bool)
    mask[20:30, 20:50] = mask[100:103, 100:103] = False
    found = ~with_margin(mask)
    assert found[21:29, 21:49].all() and found.sum() == 8 * 28


def test_the_chosen_pair_is_the_lowest_that_masks_no_clouds():
    statistics = Statistics.empty((HEIGHT, WIDTH))
    statistics.frames = 40
    assert choose_pair(statistics) == PAIRS[0]
    statistics.masked[:20], statistics.longest[:20] = 10, 8  # clouds in a quarter of the frames
    assert choose_pair(statistics) == (10, 30)
    statistics.masked[:20], statistics.longest[:20] = 40, 40  # overlays
    assert choose_pair(statistics) == PAIRS[0]
    statistics.masked[:], statistics.longest[:] = 40, 40  # noise
    assert choose_pair(statistics) is None
    statistics.masked[:], statistics.frames = 0, 30
    assert choose_pair(statistics) is None


def test_a_camera_gets_its_mask(camera):
    mask = sky_mask(camera)
    union, wrong = quality(mask.masked, true_sky())
    assert union > 0.93 and wrong < 0.003
    assert len(mask.overlays) == 1 and mask.masked[LOGO].all()
    assert not sky_mask(camera, find_overlays=False).overlays
    assert sky_mask(camera, boxes=[(100, 0, 50, 50)]).masked[:50, 100:150].all()


def test_a_mountain_seen_in_half_the_frames_is_found():
    mask = sky_mask(statistics_of(draw_frames(60, seed=3, seen=0.5, logo=False)))
    union, wrong = quality(mask.masked, np.arange(HEIGHT)[:, None] < skyline())
    assert union > 0.93 and wrong < 0.003


def test_the_mask_of_the_thesis_is_found_too(camera):
    masked = thesis_mask(camera, (5, 20), [(0, 0, 70, 30)])
    union, _ = quality(masked, true_sky())
    assert union > 0.8 and masked[-1].all() and masked[:30, :70].all()


# ---------------------------------------------------------------------------------------------------------------------
# The command


def test_all_places_get_masks_and_pictures(archive, results, capsys):
    run("--dataset_location", archive, "--masks", results / "masks")
    for place in ("north", "south"):
        with Image.open(results / "masks" / f"{place}_mask.png") as image:
            assert image.mode == "L" and image.size == (WIDTH, HEIGHT)
            values = np.asarray(image)
        assert set(np.unique(values)) == {0, 255}
        union, wrong = quality(values == 0, true_sky())
        assert union > 0.93 and wrong < 0.005
        with Image.open(results / "results" / f"{place}.png") as image:
            assert min(image.size) > 1000
    captured = capsys.readouterr()
    assert "2 masks" in captured.out and "24 frames" in captured.out
    assert "broken.jpg: it cannot be read" in captured.err and "small.jpg: it is 64x48 pixels" in captured.err
    assert "cut.jpg: it cannot be read" in captured.err


def test_finalize_needs_no_frames_and_uses_thresholds_boxes_and_overrides(archive, results, capsys):
    run("--dataset_location", archive, "--shard", "1/2", "--masks", results / "masks")
    assert [path.name for path in (results / "masks").glob("*_mask.png")] == ["north_mask.png"]
    first = (results / "masks" / "north_mask.png").read_bytes()
    run("--finalize", "--masks", results / "masks")
    assert (results / "masks" / "north_mask.png").read_bytes() == first
    file = results / "places.toml"
    file.write_text("[north]\nboxes = [[-60, 0, 60, 60]]\nthresholds = [3, 10]\noverlays = false\n")
    run("--finalize", "--masks", results / "masks", "--overrides", file, "--places", "north")
    values = np.asarray(Image.open(results / "masks" / "north_mask.png"))
    assert (values[:60, -60:] == 0).all() and values[10, 100] == 255
    assert "thresholds 3 frames, 10 %, overlays found: 0" in capsys.readouterr().out
    run("--finalize", "--masks", results / "masks", "--method", "thesis", "--thresholds", "5,20", "--boxes", "thesis")
    assert (np.asarray(Image.open(results / "masks" / "north_mask.png"))[:20, :50] == 0).all()


def test_frames_are_chosen_by_daylight_and_spread(archive):
    from concurrent.futures import ThreadPoolExecutor

    named = []
    with ThreadPoolExecutor(2) as pool:
        paths = segmentation.frame_paths(archive / "south")
        shape, chosen = segmentation.choose_frames(paths, 8, pool, lambda path, reason: named.append(path.name))
    assert shape == (HEIGHT, WIDTH) and len(chosen) == 8 and {path.parent.name for path in chosen} == {
        "2024-05-01", "2024-05-02"}
    assert {"broken.jpg", "small.jpg"} <= {*named} and not {"night.jpg", "small.jpg"} & {path.name for path in chosen}


@pytest.mark.parametrize(("options", "words"), [
    ([], "Give --dataset_location"),
    (["--dataset_location", "nowhere"], "nowhere is not a folder"),
    (["--dataset_location", "{archive}", "--places", "west"], "--places west is not there"),
    (["--dataset_location", "{archive}", "--shard", "9/9"], "--shard 9/9 is empty"),
    (["--finalize"], "No mask was made"),
    (["--finalize", "--overrides", "nowhere.toml"], "cannot be read"),
])
def test_wrong_input_is_one_sentence(archive, results, capsys, options, words):
    with pytest.raises(SystemExit) as stopped:
        run(*(option.format(archive=archive) for option in options))
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and words in error and "Traceback" not in error


@pytest.mark.parametrize("text", ["1,2,3", "a,b,c,d", "0,0,0,5", "1.5,0,3,3"])
def test_bad_boxes_are_refused(text):
    with pytest.raises(argparse.ArgumentTypeError):
        segmentation.box(text)


@pytest.mark.parametrize("text", ["5", "5,100", "-1,20", "x,y"])
def test_bad_thresholds_are_refused(text):
    with pytest.raises(argparse.ArgumentTypeError):
        segmentation.thresholds(text)


@pytest.mark.parametrize("text", ["[a]\ncolour = 1", "a = 1", "[a]\nboxes = [[1, 2]]", "[a]\nthresholds = 5",
                                  "[a]\noverlays = 1", "[a"])
def test_bad_overrides_are_refused(tmp_path, text):
    file = tmp_path / "places.toml"
    file.write_text(text)
    with pytest.raises(UserError, match=r"places\.toml"):
        segmentation.read_overrides(file)


def test_a_place_without_daylight_is_left_out(archive, results, capsys):
    copy = results / "copy"
    shutil.copytree(archive / "north", copy / "north")
    (copy / "dark" / "day").mkdir(parents=True)
    for number in range(8):
        os.link(archive / "south" / "2024-05-01" / "night.jpg", copy / "dark" / "day" / f"{number}.jpg")
    with pytest.raises(SystemExit) as stopped:
        run("--dataset_location", copy, "--masks", results / "masks")
    captured = capsys.readouterr()
    assert stopped.value.code == 1
    assert "Left out dark: 0 of 8 frames show daylight" in captured.err and "1 masks" in captured.out


def test_frames_may_come_from_a_server(archive, results, monkeypatch):
    class Server:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def places(self):
            return ["north"]

        def fetch_day(self, place, folder, count, seed):
            assert folder == results / "downloads" and count == 100
            return segmentation.frame_paths(archive / place)

    monkeypatch.setattr(segmentation, "connect", lambda args: Server())
    run("--server", "example.org", "--dataset_location", results / "downloads", "--masks", results / "masks")
    assert (results / "masks" / "north_mask.png").is_file()


# ---------------------------------------------------------------------------------------------------------------------
# The real cameras


@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data/webcams")
def test_a_hidden_mountain_and_a_date_are_masked(results):
    run("--dataset_location", REAL, "--places", "fuji", "--masks", results / "masks")
    sky = np.asarray(Image.open(results / "masks" / "fuji_mask.png")) > 0
    assert sky[:170].mean() > 0.99  # above the summit
    assert not sky[200:, 300:360].any() and not sky[330:].any()  # the mountain and the part below it
    assert sky[250, 60] and sky[200, 560]  # beside it
