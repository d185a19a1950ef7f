"""Contrast and hues of what was painted, as in the photograph that is continued, and the border between the two.

Functions of arrays.
"""
import cv2
import numpy as np

from colours import colour_range
from utilities import spread

FINEST, COARSEST = 1, 4  # levels of the pyramid that are matched: structures of 2 to 16 low-resolution pixels
QUANTILES = np.linspace(0, 1, 65)
MOST = 2.0  # by which structures become stronger or weaker
SMOOTH = 1.0  # standard deviation of that factor, in pixels of the level
COLOURS = 512  # that stand for all of the photograph, and as many for what was painted
BRIGHTNESS_REACH = 0.35  # deviations over which colours are alike in brightness
HUE_REACHES = 1.0, 0.1  # distances over which they are alike in hue, one after the other: at first all are
FADE = 24  # low-resolution pixels from the known part over which hues begin to be matched
REACHES = 16, 8, 4, 2  # deviations in low-resolution pixels of the means of what is missing along a border
FADING = 1.5  # reaches from the border at which these have fallen to 1 / e


def with_contrast(low, known):
    """A decoded canvas whose new part has structures as strong and as weak as its known part, at each scale.

    Tokens that are drawn one by one are too much alike in that: clouds come out soft, and crumbs are left where nothing
    is. The strength at each place becomes that of the same rank in the known part, separately along the principal axes
    of its colours, so that grey clouds get no tints. After Heeger and Bergen, Pyramid-based texture analysis/synthesis
    (SIGGRAPH 1995), who match the histograms of all bands; here the factors are limited and smooth.

    low: float32 [h, w, 3] in [0, 1]. known: (top, bottom, left, right) in pixels. Returns the same kind of array; what
    is far inside the known part stays.
    """
    top, bottom, left, right = known
    new = np.ones(low.shape[:2], np.float32)
    new[top:bottom, left:right] = 0
    axes = np.linalg.eigh(np.cov(low[top:bottom, left:right].reshape(-1, 3).T))[1].astype(np.float32)
    bands = laplacian_pyramid(low @ axes, COARSEST + 2)
    for level in range(FINEST, COARSEST + 1):
        share = cv2.resize(new, bands[level].shape[1::-1], interpolation=cv2.INTER_AREA)
        if share.max() > 0.99 and share.min() < 0.01:
            bands[level] *= np.stack([gains(band, share) for band in np.moveaxis(np.abs(bands[level]), -1, 0)], axis=-1)
    return np.clip(collapsed(bands) @ axes.T, 0, 1)


def with_hues(low, known, photograph):
    """A decoded canvas whose new part has at each brightness the hues that the photograph has at that brightness.

    Brightness is the place along the main axis of the photograph's colours, hue that along the two others: what is
    painted may be brighter or darker on the whole, but gets no tint of its own. Each colour moves from the mean hue of
    what was painted and looks like it to that of the photograph; so it climbs the density of the photograph's colours
    and descends that of the painted ones (the mean shift of Fukunaga and Hostetler, The estimation of the gradient of a
    density function, 1975), and stays where the two are alike. It never ends farther from the photograph's mean than it
    was. What is brighter or darker than all of the photograph is so by grey: along an axis from blue to white, it would
    be yellow.

    low, known: those of with_contrast. photograph: float32 [H, W, 3] in [0, 1] at the scale of low; its own pixels, for
    the decoder tints what it decodes. Returns the same kind of array as with_contrast.
    """
    top, bottom, left, right = known
    new = np.ones(low.shape[:2], bool)
    new[top:bottom, left:right] = False
    if not new.any():
        return low
    usual = colour_range(photograph)
    some = spread(photograph.reshape(-1, 3), COLOURS)
    wanted, places = ((colours - usual.mean) @ usual.axes for colours in (some, low))
    brightness_reach = max(BRIGHTNESS_REACH * wanted[:, 2].std(), 1e-3)
    wanted[:, 2] = np.clip(wanted[:, 2], usual.lowest[2], usual.highest[2])
    excess = places[..., 2] - np.clip(places[..., 2], usual.lowest[2], usual.highest[2])
    places[..., 2] -= excess
    share = np.clip(cv2.distanceTransform(np.uint8(new), cv2.DIST_L2, 5) / FADE, 0, 1)[..., None]
    for hue_reach in HUE_REACHES:
        reach = np.float32([hue_reach, hue_reach, brightness_reach])
        theirs, painted = (mean_hues(places, colours, reach) for colours in (wanted, spread(places[new], COLOURS)))
        before, after = places[..., :2] - theirs, places[..., :2] - painted
        after *= np.minimum(1, length(before) / np.maximum(length(after), 1e-6))
        places[..., :2] += share * (after - before)
    grey = usual.axes.sum(axis=0)
    places[..., :2] += share * excess[..., None] * np.clip(grey[:2] / grey[2], -1, 1)
    places[..., 2] += excess
    return np.clip(places @ usual.axes.T + usual.mean, 0, 1)


def length(vectors):
    return np.linalg.norm(vectors, axis=-1, keepdims=True)


def mean_hues(places, colours, reach):
    """The means of the first two coordinates of those colours, float32 [K, 3], that are near places, float32 [h, w, 3].

    Weights are those of a t-distribution, so that where nothing is near the nearest count. reach: float32 [3], of the
    weights along each coordinate. Returns float32 [h, w, 2].
    """
    near = colours / reach
    near, lengths = -2 * near.T, 1 + (near**2).sum(axis=1)
    means = np.empty((*places.shape[:2], 2), np.float32)
    for row, mean in zip(places / reach, means, strict=True):
        weights = row @ near
        weights += lengths
        weights += (row**2).sum(axis=1, keepdims=True)
        np.maximum(weights, 1, out=weights)
        np.square(np.square(weights, out=weights), out=weights)
        np.reciprocal(weights, out=weights)
        mean[:] = weights @ colours[:, :2] / weights.sum(axis=1, keepdims=True)
    return means


def within_range(low, known):
    """A decoded canvas whose new part has colours that lie little beyond those of its known part. Arguments and result
    are those of with_contrast."""
    top, bottom, left, right = known
    result = colour_range(low[top:bottom, left:right]).limited(low)
    result[top:bottom, left:right] = low[top:bottom, left:right]
    return result


def seamless(low, known, photograph):
    """A decoded canvas that has the photograph's colours along its border, on both sides of it.

    The decoder sees what was painted beside the photograph, and is off inside it too. What is missing at the border is
    added there, and fades away from it: coarse differences reach far, fine ones end at once. That is what the membrane
    of Pérez et al., Poisson image editing (SIGGRAPH 2003), does; here it is made of means, from coarse to fine as in
    Farbman et al., Convolution pyramids (SIGGRAPH Asia 2011), and falls to 0, since nothing holds its other end.

    Arguments and result are those of with_hues.
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
        band = np.float32(inside * (distance < reach / 2))
        near = cv2.GaussianBlur(band, (0, 0), reach)[..., None]
        mean = cv2.GaussianBlur((missing - added) * band[..., None], (0, 0), reach) / (near + 1e-5)
        added += mean * np.exp(-distance / (FADING * reach))[..., None]
    return np.clip(low + added, 0, 1)


def gains(strength, share):
    """Factors float32 [h, w] after which a strength float32 [h, w] has where share is 1 the values that it has where
    share is 0, as far as MOST and SMOOTH allow; in between they tend to 1 as the share does to 0."""
    wanted = np.interp(strength, np.quantile(strength[share > 0.99], QUANTILES),
                       np.quantile(strength[share < 0.01], QUANTILES))
    factor = np.clip(wanted / np.maximum(strength, 1e-6), 1 / MOST, MOST).astype(np.float32)
    return 1 + share * (cv2.GaussianBlur(factor, (0, 0), SMOOTH) - 1)


def laplacian_pyramid(picture, levels):
    """Band-pass pictures from fine to coarse, the last one low-pass, of float32 [H, W, C]. Burt and Adelson 1983."""
    bands = []
    for _ in range(levels - 1):
        small = cv2.pyrDown(picture)
        bands.append(picture - cv2.pyrUp(small, dstsize=picture.shape[1::-1]))
        picture = small
    return [*bands, picture]


def collapsed(bands):
    """The picture float32 [H, W, C] of which these are the laplacian_pyramid."""
    picture = bands[-1]
    for band in bands[-2::-1]:
        picture = band + cv2.pyrUp(picture, dstsize=band.shape[1::-1])
    return picture
