import itertools

import numpy as np
import pytest
from scipy import ndimage

from decoding.canvas_decoding import decode_canvas, fill_jointly, fill_outwards, repaint, steps_for
from decoding.windows import blend, even_starts, grid_windows, independent_batches, ring_windows, tile_weights

MASK = 7
CANVASES = [  # height, width, known rectangle
    (48, 48, (16, 32, 16, 32)), (16, 80, (0, 16, 30, 52)), (33, 57, (8, 25, 3, 40)), (20, 30, (0, 16, 0, 16)),
    (40, 16, (24, 40, 0, 16)), (64, 50, (20, 40, 11, 27)), (16, 16, (0, 16, 0, 16)),
]


@pytest.mark.parametrize(("first", "length", "size", "stride"),
                         list(itertools.product((0, 5), (16, 17, 31, 32, 100), (16,), (1, 7, 12, 16))))
def test_even_starts_cover_without_gaps(first, length, size, stride):
    starts = even_starts(first, first + length, size, stride)
    assert starts[0] == first
    assert starts[-1] == first + length - size
    assert max(np.diff(starts), default=0) <= stride


def test_even_starts_centre_a_window_on_a_short_stretch():
    assert even_starts(10, 14, 8, 4) == [8]


@pytest.mark.parametrize(("height", "width", "known"), CANVASES)
@pytest.mark.parametrize("step", [4, 8, 12])
def test_ring_windows_cover_the_canvas_and_always_see_known_tokens(height, width, known, step):
    filled = np.zeros((height, width), bool)
    filled[known[0]:known[1], known[2]:known[3]] = True
    for row, column in ring_windows(known, height, width, 16, step):
        assert 0 <= row <= height - 16
        assert 0 <= column <= width - 16
        window = filled[row:row + 16, column:column + 16]
        assert window.mean() >= (1 - step / 16) ** 2
        window[:] = True
    assert filled.all()


@pytest.mark.parametrize(("height", "width", "known"), CANVASES)
def test_batches_keep_the_order_of_overlapping_windows(height, width, known):
    windows = ring_windows(known, height, width, 16, 8)
    batches = independent_batches(windows, 16)
    assert sorted(itertools.chain(*batches)) == sorted(windows)
    batch_of = {place: index for index, batch in enumerate(batches) for place in batch}
    for (index, first), (other, second) in itertools.combinations(enumerate(windows), 2):
        if abs(first[0] - second[0]) < 16 and abs(first[1] - second[1]) < 16:
            assert index < other
            assert batch_of[first] < batch_of[second]


def test_first_ring_takes_the_sides_before_the_corners():
    windows = ring_windows((16, 32, 16, 32), 48, 48, 16, 8)[:8]
    assert set(windows[:4]) == {(8, 16), (24, 16), (16, 8), (16, 24)}
    assert set(windows[4:]) == {(8, 8), (8, 24), (24, 8), (24, 24)}


@pytest.mark.parametrize(("height", "width", "known"), [
    (48, 64, (16, 32, 20, 36)), (16, 80, (0, 16, 0, 27)), (40, 24, (0, 20, 2, 18)), (31, 45, (3, 20, 40, 45))])
@pytest.mark.parametrize("step", [4, 8, 12])
def test_windows_around_close_and_see_known_tokens_on_both_sides(height, width, known, step):
    filled = np.zeros((height, width), bool)
    filled[known[0]:known[1], known[2]:known[3]] = True
    windows = ring_windows(known, height, width, 16, step, wrap=True)
    for row, column in windows:
        assert 0 <= row <= height - 16
        assert 0 <= column < width
        columns = np.arange(column, column + 16) % width
        window = filled[row:row + 16, columns]
        unknown = np.flatnonzero(~window.any(axis=0))
        if filled[row:row + 16].any(axis=0).all(where=np.isin(np.arange(width), columns, invert=True)):
            assert unknown.size == 0 or (unknown[0] > 0 and unknown[-1] < 15), "it closes the gap from both sides"
        filled[row:row + 16, columns] = True
    assert filled.all()
    batch_of = {place: index for index, batch in enumerate(independent_batches(windows, 16, width)) for place in batch}
    for first, second in itertools.combinations(windows, 2):
        across = abs(first[1] - second[1])
        if abs(first[0] - second[0]) < 16 and min(across, width - across) < 16:
            assert batch_of[first] < batch_of[second]


@pytest.mark.parametrize("jointly", [False, True])
def test_a_canvas_that_closes_has_no_special_column(jointly):
    """Turning the canvas turns the result. Decided jointly, tokens depend on the place by their order only, so there a
    network that repeats its guides is used."""
    canvas, guide = unfilled(40, 52, (8, 24, 16, 32)), np.random.default_rng(1).integers(0, MASK, (40, 52))
    turned, turned_guide = np.roll(canvas, -25, axis=1), np.roll(guide, -25, axis=1)

    def repeating(tokens, guides):
        return 100.0 * np.eye(MASK)[guides]

    if jointly:
        result, other = (fill_jointly(grid, [guides], repeating, MASK, 16, 0, 4, steps=3, wrap=True)
                         for grid, guides in ((canvas, guide), (turned, turned_guide)))
        np.testing.assert_array_equal(result, np.where(canvas == MASK, guide, canvas))
    else:
        result, other = (fill_outwards(grid[None], [guides[None]], neighbour_network, MASK, known, 16, 8, [0], 4,
                                       steps=3, wrap=True)[0]
                         for grid, guides, known in ((canvas, guide, (8, 24, 16, 32)),
                                                     (turned, turned_guide, (8, 24, -9, 7))))
    np.testing.assert_array_equal(np.roll(result, -25, axis=1), other)
    assert (result < MASK).all()


def test_decoding_a_canvas_that_closes_is_decoding_its_repetition():
    def decode(tokens):
        means = ndimage.uniform_filter(tokens.astype(np.float32), (0, 19, 19))
        return means[..., None].repeat(3, 3).repeat(2, 1).repeat(2, 2)

    tokens = np.random.default_rng(0).integers(0, 99, (12, 60))
    whole = decode_canvas(np.tile(tokens, (1, 3)), decode, 2)
    np.testing.assert_allclose(decode_canvas(tokens, decode, 2, wrap=True), whole[:, 120:240], atol=1e-4)


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("shrink", [2, 4])
def test_a_shrunk_canvas_has_the_means_of_the_decoded_one(shrink, wrap):
    tokens = np.random.default_rng(0).integers(0, 9, (50, 100))

    def decode(parts):
        return np.kron(parts, np.arange(64.0).reshape(8, 8))[..., None].repeat(3, axis=-1)

    whole = decode_canvas(tokens, decode, 8, wrap=wrap)
    shrunk = decode_canvas(tokens, decode, 8, wrap=wrap, shrink=shrink)
    height, width = (side * 8 // shrink for side in tokens.shape)
    np.testing.assert_allclose(shrunk, whole.reshape(height, shrink, width, shrink, 3).mean(axis=(1, 3)), rtol=1e-5)


def test_blending_weights_sum_to_one():
    places = grid_windows(40, 57, (16, 20), 9)
    assert (tile_weights(16, 20) > 0).all()
    for each in (places, grid_windows(40, 57, (16, 20), 9, wrap=True)):
        ones = blend((40, 57, 2), (((row, column), np.ones((16, 20, 2))) for row, column in each))
        np.testing.assert_allclose(ones, 1, atol=1e-6)


def test_blending_returns_a_canvas_cut_into_tiles():
    canvas = np.random.default_rng(0).random((40, 57, 3)).astype(np.float32)
    tiles = (((row, column), canvas[row:row + 16, column:column + 20])
             for row, column in grid_windows(40, 57, (16, 20), 9))
    np.testing.assert_allclose(blend(canvas.shape, tiles), canvas, atol=1e-6)


def neighbour_network(tokens, guides):
    """Logits that depend on the whole window, so that a window decoded too early gives other tokens."""
    context = np.where(tokens == MASK, 0, tokens + 1) + guides
    mean = context.sum(axis=(1, 2), keepdims=True) % MASK
    return 2.0 * (np.arange(MASK) == (mean + np.roll(context, 1, axis=2)[..., None].sum(-1) % MASK)[..., None])


def unfilled(height, width, known):
    canvas = np.full((height, width), MASK, np.int32)
    rows, columns = slice(*known[:2]), slice(*known[2:])
    canvas[rows, columns] = np.random.default_rng(0).integers(0, MASK, canvas[rows, columns].shape)
    return canvas


@pytest.mark.parametrize(("height", "width", "known"), CANVASES)
def test_filling_keeps_known_tokens_and_leaves_no_mask(height, width, known):
    canvas = unfilled(height, width, known)
    rows, columns = slice(*known[:2]), slice(*known[2:])
    guide = np.random.default_rng(1).integers(0, MASK, canvas.shape)
    outwards = fill_outwards(canvas[None], [guide[None]], neighbour_network, MASK, known, 16, 8, [0], 4, steps=3)[0]
    jointly = fill_jointly(canvas, [guide], neighbour_network, MASK, 16, 0, 4, steps=5)
    for result in (outwards, jointly):
        np.testing.assert_array_equal(result[rows, columns], canvas[rows, columns])
        assert ((result >= 0) & (result < MASK)).all()


def test_filling_does_not_depend_on_batch_size_or_other_attempts():
    known = (16, 32, 16, 32)
    canvas = unfilled(48, 48, known)
    seeds = [0, 1, 2]
    guides = np.random.default_rng(1).integers(0, MASK, (3, *canvas.shape))
    together = fill_outwards(np.stack([canvas] * 3), [guides], neighbour_network, MASK, known, 16, 8, seeds, 5, steps=3)
    alone = [fill_outwards(canvas[None], [guide[None]], neighbour_network, MASK, known, 16, 8, [seed], 1, steps=3)[0]
             for guide, seed in zip(guides, seeds, strict=True)]
    np.testing.assert_array_equal(together, alone)
    assert (together[0] != together[1]).any()


def test_a_canvas_without_anything_known_is_filled_jointly():
    nothing = np.full((24, 20), MASK, np.int32)
    result = fill_jointly(nothing, [np.zeros_like(nothing)], neighbour_network, MASK, 16, 3, 4, steps=4)
    assert ((result >= 0) & (result < MASK)).all()


@pytest.mark.parametrize("jointly", [False, True])
def test_every_window_gets_the_guides_of_its_position(jointly):
    """A network that repeats its guides makes of the canvas a copy of them."""
    known = 8, 24, 16, 32
    canvas = unfilled(40, 52, known)
    guide = np.random.default_rng(1).integers(0, MASK, canvas.shape)

    def repeating(tokens, guides):
        return 100.0 * np.eye(MASK)[guides]

    if jointly:
        result = fill_jointly(canvas, [guide], repeating, MASK, 16, 0, 4, steps=3)
    else:
        result = fill_outwards(canvas[None], [guide[None]], repeating, MASK, known, 16, 8, [0], 4, steps=3)[0]
    np.testing.assert_array_equal(result, np.where(canvas == MASK, guide, canvas))


def test_windows_of_which_less_is_unknown_take_fewer_steps():
    assert steps_for(np.array([0, 1, 64, 128, 256]), 12, 128).tolist() == [1, 1, 6, 12, 24]
    assert steps_for(np.array([1, 256]), 1, 128).tolist() == [1, 1], "one pass stays one pass"


def test_repainting_changes_only_new_tokens_and_never_sees_what_it_hides():
    canvas = np.random.default_rng(0).integers(0, MASK, (40, 50)).astype(np.int32)
    new = np.ones(canvas.shape, bool)
    new[10:25, 5:30] = False
    seen = []

    def fill(grid, seed):
        seen.append((grid, tuple(seed.generate_state(2))))
        return np.where(grid == MASK, len(seen) % MASK, grid)

    result = repaint(canvas, new, fill, MASK, 5, 3)
    assert len({seed for _, seed in seen}) == 5
    for grid, _ in seen:
        assert 0.45 < (grid == MASK)[new].mean() < 0.55
    np.testing.assert_array_equal(result[~new], canvas[~new])
    assert (result[new] == 5).mean() > 0.45, "the last round"
    np.testing.assert_array_equal(repaint(canvas, new, fill, MASK, 0, 3), canvas)


def test_repainting_makes_tokens_agree_that_were_decided_at_once():
    """The network says that each token is like the tokens beside it. Nothing but the column at the left is known."""
    canvas = np.full((16, 16), MASK, np.int32)
    canvas[:, 0] = 1

    def like_its_neighbours(tokens):
        known = np.pad(tokens, ((0, 0), (1, 1), (1, 1)), constant_values=MASK)
        around = [known[:, 1:-1, :-2], known[:, 1:-1, 2:], known[:, :-2, 1:-1], known[:, 2:, 1:-1]]
        return 2.0 * sum(np.eye(MASK + 1)[each] for each in around)[..., :MASK]

    def fill(grid, seed, steps=2):
        return fill_jointly(grid, [], like_its_neighbours, MASK, 16, seed, 4, steps)

    def disagreeing(grid):
        return (np.diff(grid, axis=0) != 0).mean() + (np.diff(grid, axis=1) != 0).mean()

    at_once = fill(canvas, 0, 1)
    assert disagreeing(repaint(at_once, canvas == MASK, fill, MASK, 8, 0)) < 0.75 * disagreeing(at_once)
