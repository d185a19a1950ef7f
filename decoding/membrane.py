"""The border between a photograph and what was painted around it. Functions of arrays."""
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

REACHES = 16, 8, 4, 2  # deviations in low-resolution pixels of the means of what is missing along a border
FADING = 1.5  # reaches from the border at which these have fallen to 1 / e


def seamless(low: NDArray[np.floating], known: Sequence[int], photograph: NDArray[np.floating]) -> NDArray[np.floating]:
    """A decoded canvas that has the photograph's colours along its border, on both sides of it.

    The decoder sees what was painted beside the photograph, and is off inside it too. What is missing at the border is
    added there, and fades away from it: coarse differences reach far, fine ones end at once. That is what the membrane
    of Pérez et al., Poisson image editing (SIGGRAPH 2003), does; here it is made of means, from coarse to fine as in
    Farbman et al., Convolution pyramids (SIGGRAPH Asia 2011), and falls to 0, since nothing holds its other end.

    low: float32 [h, w, 3] in [0, 1]. known: (top, bottom, left, right) in pixels. photograph: float32 [H, W, 3] in
    [0, 1] at the scale of low, from (top, left) on. Returns the same kind of array as low.
    """
    top, _, left, _ = known
    place = slice(top, top + photograph.shape[0]), slice(left, left + photograph.shape[1])
    inside = np.zeros(low.shape[:2], np.uint8)
    inside[place] = 1
    if inside.all():
        return low
    # The edge of a canvas is no border of the photograph.
    within = cv2.distanceTransform(np.pad(inside, 1, mode="edge"), cv2.DIST_L2, 5)[1:-1, 1:-1]
    distance = np.where(inside, within, cv2.distanceTransform(1 - inside, cv2.DIST_L2, 5)) - 0.5
    missing, added = np.zeros_like(low), np.zeros_like(low)
    missing[place] = photograph - low[place]
    for reach in REACHES:
        band = (inside * (distance < reach / 2)).astype(np.float32)
        near = cv2.GaussianBlur(band, (0, 0), reach)[..., None]
        mean = cv2.GaussianBlur((missing - added) * band[..., None], (0, 0), reach) / (near + 1e-5)
        added += mean * np.exp(-distance / (FADING * reach))[..., None]
    return np.clip(low + added, 0, 1)
