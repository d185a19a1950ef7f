"""Keeping what is painted to the colours of the photograph. Functions of arrays and one callable."""
import cv2
import numpy as np

from token_decoding import log_softmax

BLOCK = 3  # tokens; in the middle of a block of one code, the picture has the colour of that code


def code_colours(decode, codes, window, downscale):
    """The colour of every code, float32 [codes, 3] in [0, 1].

    decode: function int32 [1, window, window] -> float32 [1, window * downscale, window * downscale, 3].
    """
    side = window // BLOCK
    windows = np.resize(np.arange(codes, dtype=np.int32), (-(-codes // side**2), side, side))
    colours = []
    for blocks in windows:
        tokens = np.pad(blocks.repeat(BLOCK, 0).repeat(BLOCK, 1), (0, window - BLOCK * side), mode="edge")
        picture = np.asarray(decode(tokens[None]), np.float32)[0]
        places = picture.reshape(window, downscale, window, downscale, 3).mean(axis=(1, 3))
        middle = slice(BLOCK // 2, BLOCK * side, BLOCK)
        colours.append(places[middle, middle].reshape(-1, 3))
    return np.concatenate(colours)[:codes]


def distances_to_palette(colours, palette):
    """Distance of each colour, float32 [N, 3] in [0, 1], to the nearest of a palette, float32 [M, 3]: float32 [N].

    In CIELAB (CIE 1976): 100 = black from white, 2 = what one just sees.
    """
    first, second = (cv2.cvtColor(np.clip(each, 0, 1)[None], cv2.COLOR_RGB2LAB)[0] for each in (colours, palette))
    return np.min([np.linalg.norm(first - each, axis=1) for each in second], axis=0)


def within_palette(network, distances, tolerance):
    """A network whose codes lose in probability when they are farther than `tolerance` from the palette.

    network: function int32 [B, h, w] -> logits [B, h, w, K]. distances: float32 [K]. tolerance: above 0, in the same
    unit. The log-probability loses the square of what exceeds it in units of half the tolerance: at twice the
    tolerance, a code is 55 times less probable.
    """
    penalty = (np.maximum(0, distances - tolerance) / (tolerance / 2)) ** 2
    return lambda tokens: log_softmax(network(tokens)) - penalty.astype(np.float32)
