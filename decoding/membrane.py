"""Removes the edge between a photograph and the generated sky around it. Functions of arrays."""
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

REACHES = 16, 8, 4, 2  # low-resolution pixels: standard deviations of the Gaussian means of the difference
FADING = 1.5  # distance from the border, in reaches, at which a correction has fallen to 1 / e
FARTHEST = 160  # low-resolution pixels; corrections at this distance from the border are below 0.2 percent


def seamless(low: NDArray[np.floating], known: Sequence[int], photograph: NDArray[np.floating],
             wrap: bool = False) -> NDArray[np.floating]:
    """Corrects the colours of a decoded canvas near the border of the photograph.

    The decoder sees generated tokens next to the photograph, so its colours are wrong on both sides of the border. The
    difference at the border is added and decays with distance: coarse differences slowly, fine ones quickly. This is
    similar to the membrane of Pérez et al., Poisson image editing (SIGGRAPH 2003). The sum of means from coarse to fine
    follows Farbman et al., Convolution pyramids (SIGGRAPH Asia 2011).

    low: float32 [h, w, 3] in [0, 1]. known: (top, bottom, left, right) in pixels. photograph: float32 [H, W, 3] in
    [0, 1] at the scale of low, from (top, left) on. wrap: whether the left and right ends of the canvas meet. Returns
    the same kind of array as low.
    """
    top, _, left, _ = known
    place = slice(top, top + photograph.shape[0]), slice(left, left + photograph.shape[1])
    inside = np.zeros(low.shape[:2], np.uint8)
    inside[place] = 1
    if inside.all():
        return low
    missing = np.zeros_like(low)
    missing[place] = photograph - low[place]
    margin = FARTHEST if wrap else 0
    if wrap:
        inside, missing = (np.pad(each, [(0, 0), (margin, margin), (0, 0)][:each.ndim], mode="wrap")
                           for each in (inside, missing))
    # Where the photograph reaches the edge of the canvas there is no border to correct.
    within = cv2.distanceTransform(np.pad(inside, 1, mode="edge"), cv2.DIST_L2, 5)[1:-1, 1:-1]
    distance = np.where(inside, within, cv2.distanceTransform(1 - inside, cv2.DIST_L2, 5)) - 0.5
    added = np.zeros_like(missing)
    for reach in REACHES:
        band = (inside * (distance < reach / 2)).astype(np.float32)
        near = cv2.GaussianBlur(band, (0, 0), reach)[..., None]
        mean = cv2.GaussianBlur((missing - added) * band[..., None], (0, 0), reach) / (near + 1e-5)
        added += mean * np.exp(-distance / (FADING * reach))[..., None]
    return np.clip(low + added[:, margin:margin + low.shape[1]], 0, 1)
