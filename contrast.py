"""The contrast and the hues of what was painted, as in the photograph that is continued. Functions of arrays."""
import cv2
import numpy as np

from colours import colour_range

FINEST, COARSEST = 1, 4  # levels of the pyramid that are matched: structures of 2 to 16 low-resolution pixels
QUANTILES = np.linspace(0, 1, 65)
MOST = 2.0  # by which structures become stronger or weaker
SMOOTH = 1.0  # standard deviation of that factor, in pixels of the level
HUES = 64  # brightnesses at which hues are compared
HUE_REACH = 0.5  # deviations of brightness over which they are averaged
FADE = 24  # low-resolution pixels from the known part over which hues begin to be matched


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


def with_hues(low, known):
    """A decoded canvas whose new part has at each brightness the mean hue that its known part has at that brightness.

    Brightness is the place along the main axis of the known part's colours, hue that along the two others: what is
    painted may be brighter or darker on the whole, but gets no tint of its own. What is brighter or darker than all of
    the known part is so by grey: along an axis from blue to white, it would be yellow. Arguments and result are those
    of with_contrast.
    """
    top, bottom, left, right = known
    new = np.ones(low.shape[:2], bool)
    new[top:bottom, left:right] = False
    if not new.any():
        return low
    parts = ~new, new
    usual = colour_range(low[~new])
    places = (low - usual.mean) @ usual.axes
    edges = np.linspace(usual.lowest[2], usual.highest[2] + 1e-3, HUES + 1)
    brightness = np.clip(places[..., 2], edges[0], edges[-1])
    reach = HUE_REACH * places[~new, 2].std() / (edges[1] - edges[0])

    def smoothed(part, weights=None):
        counts = np.histogram(brightness[part], edges, weights=weights)[0].astype(float)
        return cv2.GaussianBlur(counts[None], (0, 0), max(reach, 0.5), borderType=cv2.BORDER_CONSTANT)[0]

    share = np.clip(cv2.distanceTransform(np.uint8(new), cv2.DIST_L2, 5) / FADE, 0, 1)
    grey = usual.axes.sum(axis=0)
    counts = [smoothed(part) for part in parts]
    compared = np.min(counts, axis=0) > 0
    for axis in (0, 1):
        known_hue, new_hue = (smoothed(part, places[part, axis]) / np.maximum(count, 1e-6)
                              for part, count in zip(parts, counts, strict=True))
        shift = np.interp(brightness, (edges[1:] + edges[:-1]) / 2, np.where(compared, known_hue - new_hue, 0))
        shift += (places[..., 2] - brightness) * np.clip(grey[axis] / grey[2], -1, 1)
        places[..., axis] += share * shift
    return np.clip(places @ usual.axes.T + usual.mean, 0, 1)


def within_range(low, known):
    """A decoded canvas whose new part has colours that lie little beyond those of its known part. Arguments and result
    are those of with_contrast."""
    top, bottom, left, right = known
    result = colour_range(low[top:bottom, left:right]).limited(low)
    result[top:bottom, left:right] = low[top:bottom, left:right]
    return result


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
