"""Token decoding: schedules, orders, noise, sampling, and the whole loop with a network that is a formula."""
import numpy as np
import pytest

from decoding.token_decoding import (
    ORDERS,
    SCHEDULES,
    classifier_free_guidance,
    decode_tokens,
    decoding_steps,
    first_positions,
    gumbel_noise,
    halton_order,
    log_softmax,
    masked_after_steps,
    masked_share,
    sample_tokens,
)
from utilities import own_seed

CODES = MASK = 7


def network(tokens):
    """Logits that depend on every token, its neighbour to the left and its position."""
    codes = np.arange(CODES)
    left = np.roll(tokens, 1, axis=2)
    place = np.arange(tokens[0].size).reshape(tokens[0].shape)
    return 2 * np.sin((tokens + 1.0)[..., None] * (codes + 1) + left[..., None] + place[..., None] * 0.7)


class Counted:
    """The network, counting its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, tokens):
        self.calls += 1
        return network(tokens)


@pytest.fixture
def canvas():
    """Three grids of 5x6 tokens of which different parts are unknown, and their seeds."""
    tokens = np.random.default_rng(0).integers(0, CODES, (3, 5, 6)).astype(np.int32)
    tokens[0, :, 3:] = MASK
    tokens[1] = MASK
    tokens[2, 1:3, 2:5] = MASK
    return tokens, [4, 5, 9]


# ---------------------------------------------------------------------------------------------------------------------
# Schedules


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_masked_share_falls_from_one_to_zero(schedule):
    share = masked_share(np.linspace(0, 1, 1001), schedule)
    assert share[[0, -1]] == pytest.approx([1, 0], abs=1e-12)
    assert (np.diff(share) < 0).all()


def test_shares_halfway():
    shares = {schedule: float(masked_share(0.5, schedule)) for schedule in SCHEDULES}
    assert shares == pytest.approx({"cosine": 0.5**0.5, "arccos": 2 / 3, "linear": 0.5, "square": 0.75,
                                    "root": 1 - 0.5**0.5})


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_decides_all_tokens_for_any_count_and_number_of_steps(schedule):
    unknown = np.arange(1025)
    for steps in range(1, 65):
        masked = masked_after_steps(unknown, steps, schedule)
        assert masked.shape == (1025, steps)
        before = np.concatenate([unknown[:, None], masked[:, :-1]], axis=1)
        decided = before - masked
        assert (masked[:, -1] == 0).all()
        assert (decided.sum(axis=1) == unknown).all()
        assert (decided >= (before > 0)).all()
        # Where neither rule about the number of tokens in a step interferes, the schedule is followed.
        wanted = np.floor(unknown[:, None] * masked_share(np.arange(1, steps + 1) / steps, schedule))
        free = (wanted >= np.arange(steps)[::-1]) & (wanted < before)
        assert (np.abs(masked - wanted) <= 1)[free].all()
        assert free[4 * steps:].mean() > 0.6


def test_one_count_gives_one_row():
    assert masked_after_steps(10, 5, "linear").tolist() == [8, 6, 4, 2, 0]
    assert masked_after_steps(3, 5, "linear").tolist() == [2, 1, 0, 0, 0]


# ---------------------------------------------------------------------------------------------------------------------
# Orders and noise


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 7), (7, 1), (16, 16), (48, 20)])
def test_the_halton_order_visits_every_position_once(height, width):
    rank = halton_order(height, width)
    assert rank.shape == (height, width)
    assert np.array_equal(np.sort(rank, axis=None), np.arange(height * width))


def test_the_halton_order_spreads_its_first_positions():
    """Each quarter of the grid gets a quarter of any first few positions, give or take one or two."""
    rank = halton_order(16, 16)
    for few in (8, 16, 32, 64):
        quarters = (rank < few).reshape(2, 8, 2, 8).sum(axis=(1, 3))
        assert np.abs(quarters - few / 4).max() <= 2


def test_the_halton_order_cannot_be_changed_by_a_caller():
    with pytest.raises(ValueError, match="read-only"):
        halton_order(4, 4)[0, 0] = 1


def test_gumbel_noise_is_standard_and_decided_by_its_seed():
    noise = gumbel_noise(own_seed(3, 1), (100_000,))
    assert noise.dtype == np.float32
    assert noise.mean() == pytest.approx(np.euler_gamma, abs=0.02)
    assert noise.var() == pytest.approx(np.pi**2 / 6, abs=0.04)
    assert np.array_equal(noise, gumbel_noise(own_seed(3, 1), (100_000,)))
    for other in (own_seed(3, 2), own_seed(2, 1), 3, own_seed(3, 1, 1)):
        assert abs(np.corrcoef(noise, gumbel_noise(other, (100_000,)))[0, 1]) < 0.02


# ---------------------------------------------------------------------------------------------------------------------
# Sampling


def test_log_softmax_normalises_also_huge_logits():
    logits = np.array([[1.0, 2.0, 3.0], [1e4, 0.0, 1e4]])
    expected = [[np.exp(i) / np.exp([1, 2, 3]).sum() for i in (1, 2, 3)], [0.5, 0, 0.5]]
    assert np.allclose(np.exp(log_softmax(logits)), expected, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_sampled_tokens_follow_the_distribution_at_this_temperature(temperature):
    draws = 20_000
    log_probabilities = np.log(np.array([0.4, 0.3, 0.15, 0.1, 0.05], np.float32))
    repeated = np.tile(log_probabilities, (draws, 1))
    tokens, chosen = sample_tokens(repeated, gumbel_noise(1, repeated.shape), temperature)
    assert tokens.dtype == np.int32
    assert np.array_equal(chosen, log_probabilities[tokens])
    expected = np.exp(log_probabilities / temperature)
    expected *= draws / expected.sum()
    chi_square = ((np.bincount(tokens, minlength=5) - expected) ** 2 / expected).sum()
    assert chi_square < 18.5  # 4 degrees of freedom: exceeded once in a thousand


def test_temperature_zero_takes_the_most_probable_token():
    log_probabilities = log_softmax(np.random.default_rng(0).normal(size=(4, 5, CODES)))
    tokens, _ = sample_tokens(log_probabilities, gumbel_noise(1, log_probabilities.shape), 0)
    assert np.array_equal(tokens, log_probabilities.argmax(-1))


def test_first_positions_takes_the_highest_allowed_ones_of_each_row():
    priority = np.array([[[5.0, 1.0], [4.0, 3.0]], [[1.0, 2.0], [3.0, 4.0]], [[1.0, 1.0], [1.0, 1.0]]])
    allowed = np.array([[[False, True], [True, True]], [[True, True], [False, False]], [[True] * 2] * 2])
    found = first_positions(priority, allowed, np.array([2, 3, 0]))
    assert found.tolist() == [[[False, False], [True, True]], [[True, True], [False, False]], [[False] * 2] * 2]


# ---------------------------------------------------------------------------------------------------------------------
# The loop


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_decoding_fills_what_is_unknown_on_schedule_and_keeps_the_rest(canvas, order, schedule):
    tokens, seeds = canvas
    known, before = tokens != MASK, tokens.copy()
    counted = Counted()
    masked = []
    for now, decided, logits in decoding_steps(tokens, counted, MASK, seeds, 8, schedule, order):
        assert logits.shape == (3, 5, 6, CODES)
        assert np.array_equal(decided, (before == MASK) & (now != MASK))
        assert np.array_equal(now[~decided], before[~decided])
        masked.append((now == MASK).sum(axis=(1, 2)))
        before = now
    assert counted.calls == len(masked) == 8
    assert np.array_equal(np.transpose(masked), masked_after_steps((~known).sum(axis=(1, 2)), 8, schedule))
    assert np.array_equal(now[known], tokens[known])
    assert ((now >= 0) & (now < CODES)).all()


@pytest.mark.parametrize("order", ORDERS)
def test_a_row_depends_on_its_own_seed_and_tokens_alone(canvas, order):
    tokens, seeds = canvas
    together = decode_tokens(tokens, network, MASK, seeds, steps=6, order=order)
    alone = [decode_tokens(tokens[row:row + 1], network, MASK, [seeds[row]], steps=6, order=order)[0]
             for row in range(3)]
    assert np.array_equal(together, np.stack(alone))
    assert not np.array_equal(together, decode_tokens(tokens, network, MASK, seeds[::-1], steps=6, order=order))


def test_the_two_orders_differ(canvas):
    tokens, seeds = canvas
    first = [next(decoding_steps(tokens, network, MASK, seeds, order=order))[1] for order in ORDERS]
    assert not np.array_equal(*first)


def test_confidence_without_noise_decides_the_most_probable_positions():
    tokens = np.full((1, 4, 4), MASK, np.int32)
    _, decided, logits = next(decoding_steps(tokens, network, MASK, [0], 4, "linear", "confidence", temperature=0,
                                             order_temperature=0))
    confidence = log_softmax(logits).max(-1)
    assert decided.sum() == 4
    assert confidence[decided].min() >= confidence[~decided].max()


def test_no_more_calls_than_tokens():
    tokens = np.zeros((2, 4, 4), np.int32)
    tokens[0, 0, :2] = MASK
    counted = Counted()
    decode_tokens(tokens, counted, MASK, [0, 1], steps=12)
    assert counted.calls == 2


def test_nothing_unknown_is_left_alone_without_a_call():
    tokens = np.arange(16, dtype=np.int32).reshape(1, 4, 4) % CODES
    counted = Counted()
    assert np.array_equal(decode_tokens(tokens, counted, MASK, [0]), tokens)
    assert counted.calls == 0


def test_the_tokens_given_are_not_written_to(canvas):
    tokens, seeds = canvas
    copy = tokens.copy()
    decode_tokens(tokens, network, MASK, seeds, steps=3)
    assert np.array_equal(tokens, copy)


def test_guidance_prefers_what_the_condition_makes_likelier():
    """Token 0 is common; token 1 is as likely under the condition."""
    def constant(*shares):
        return lambda tokens: np.log(shares) + np.zeros((*tokens.shape, 1))

    conditional, seen = constant(0.5, 0.5), np.array([[[0, 2], [2, 2]]], np.int32)
    assert classifier_free_guidance(conditional, None, 0.0) is conditional
    result = log_softmax(classifier_free_guidance(conditional, constant(0.9, 0.1), 1.0)(seen))
    np.testing.assert_allclose(np.exp(result[0, 0, 0]), [0.1, 0.9], rtol=1e-5)


def test_rows_may_have_steps_of_their_own():
    unknown, steps = np.array([100, 100, 3, 0]), np.array([12, 4, 6, 1])
    together = masked_after_steps(unknown, steps, "arccos")
    assert together.shape == (4, 12)
    for row, (count, own) in enumerate(zip(unknown, steps, strict=True)):
        np.testing.assert_array_equal(together[row, :own], masked_after_steps(count, own, "arccos"))
        assert not together[row, own:].any()
    tokens = np.full((2, 4, 4), 9, np.int32)
    calls = []

    def network(grid):
        calls.append(grid)
        return np.zeros((*grid.shape, 9))

    alone = [decode_tokens(tokens[:1], network, 9, [seed], steps=count) for seed, count in ((1, 2), (2, 5))]
    calls.clear()
    np.testing.assert_array_equal(decode_tokens(tokens, network, 9, [1, 2], steps=[2, 5]), np.concatenate(alone))
    assert len(calls) == 5
