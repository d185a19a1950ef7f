"""Coarse tokens: tokens of the picture at half its size, a condition for those at full size."""
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def guide_tokens(coarse: NDArray[np.integer]) -> NDArray[np.int32]:
    """Coarse tokens, int [..., h, w], at each position of the picture's tokens at full size, int [..., 2h, 2w].

    Value = 4 * token + number of the position within its 2x2 square.
    """
    height, width = coarse.shape[-2:]
    place = 2 * (np.arange(2 * height) % 2)[:, None] + np.arange(2 * width) % 2
    return (4 * coarse.astype(np.int32).repeat(2, axis=-2).repeat(2, axis=-1) + place).astype(np.int32)


def no_guide(shape: Sequence[int], mask_token: int) -> NDArray[np.int32]:
    """Result of guide_tokens, int [*shape], where no coarse token is known."""
    return np.full(shape, 4 * mask_token, np.int32)


def at_half_size(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 [..., H, W, 3] with even sides -> uint8 [..., H / 2, W / 2, 3], means of 2x2 pixels."""
    *batch, height, width, _ = pictures.shape
    squares = pictures.reshape(*batch, height // 2, 2, width // 2, 2, 3)
    return (squares.sum(axis=(-4, -2), dtype=np.uint16) + 2 >> 2).astype(np.uint8)
