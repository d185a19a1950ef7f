"""The Fréchet distance of two folders of pictures, as papers report it (FID), and the bias that few pictures bring."""
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from archive.pictures import picture_files, read_picture
from decoding.windows import in_batches
from metrics.perceptual import BATCH, SIDE, frechet, load_features
from utilities import DAMAGED, UserError, own_seed, why

INCEPTION_SIDE = 299  # pixels, side of the network's input
PARTS = 4  # most parts into which the folders are divided to extrapolate
Features = Callable[[NDArray[np.uint8]], NDArray[np.float64]]


def inception_features(path: Path) -> Features:
    """Function uint8 [N, 299, 299, 3] -> float64 [N, 2048]: the averaged last feature map of InceptionV3.

    path: weights of keras.applications.InceptionV3(include_top=False), .h5 or .weights.h5. Szegedy et al., Rethinking
    the Inception architecture, arXiv 1512.00567. Raises UserError.
    """
    from networks.backend import compiled, keras, ops

    if not path.is_file():
        raise UserError(f"--inception {path} is not a file: name weights of InceptionV3 from Keras.")
    network = keras.applications.InceptionV3(include_top=False, weights=None, pooling="avg")
    try:
        network.load_weights(path)
    except DAMAGED as error:
        raise UserError(f"{path} does not hold weights of keras.applications.InceptionV3(include_top=False) "
                        f"({why(error)}).") from None
    forward = compiled(network, lambda pictures: network(ops.cast(pictures, "float32") / 127.5 - 1, training=False))
    return lambda pictures: np.asarray(forward(pictures), np.float64)


def named_files(name: str) -> list[Path]:
    """The pictures of a folder and its sub-folders, or those that match a pattern such as results/*_filled.png.

    Results of this project count with a pattern only. Raises UserError when there are fewer than two.
    """
    path = Path(name)
    is_pattern = any(sign in path.name for sign in "*?[") and not path.exists()
    files = sorted(path.parent.glob(path.name)) if is_pattern else picture_files(path)
    return enough(files, name)


def enough(items: list, name: str) -> list:
    """The items. Raises UserError when there are fewer than two."""
    if len(items) < 2:
        raise UserError(f"{name} gives {len(items)} picture{'s' * (len(items) != 1)}: the Fréchet distance needs at "
                        "least two from each folder.")
    return items


def squares(files: Iterable[Path], side: int) -> Iterator[NDArray[np.uint8]]:
    """The pictures of files as uint8 [side, side, 3]; one that cannot be read is said on stderr and left out.

    They are squeezed or stretched, as for FID in papers, with a bicubic filter that leaves no aliasing: Parmar et al.,
    On aliased resizing, arXiv 2104.11222.
    """
    for file in files:
        try:
            picture = Image.fromarray(read_picture(file))
        except UserError as error:
            tqdm.write(f"Left out: {error}", file=sys.stderr)
            continue
        yield np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC))


def features_of(name: str, files: list[Path], side: int, features: Features) -> NDArray[np.float32]:
    """Features of picture files, float32 [N, D], of which only a batch is in memory. name: of their folder."""
    found: list[Any] = []
    with tqdm(total=len(files), desc=name, unit="picture") as bar:
        for batch in in_batches(files, BATCH):
            if pictures := list(squares(batch, side)):
                found += list(features(np.stack(pictures)).astype(np.float32))
            bar.update(len(batch))
    return np.stack(enough(found, name))


def fid_scores(first: NDArray[np.floating], second: NDArray[np.floating]) -> dict[str, float]:
    """FID of two sets of features, float [N, D] and [M, D], and what tells of its bias.

    "fid": on all axes (Heusel et al., arXiv 1706.08500, eq. 6). "fid of halves": between two random halves of the
    larger set, where it would be 0 with infinitely many pictures. "fid, extrapolated": to infinitely many pictures,
    since the bias falls nearly as 1/N (Chong and Forsyth, arXiv 1911.07023, section 3): a line through the mean FID of
    the sets in 1, 2, 3 and 4 parts, at 0 parts; with fewer pictures than D it is still too large. The last two are left
    out where the sets are too small for parts of two.
    """
    rng = np.random.default_rng(own_seed(0, "fid"))
    first, second = rng.permutation(first), rng.permutation(second)
    half, other_half = np.array_split(max(first, second, key=len), 2)
    most = min(PARTS, len(first) // 2, len(second) // 2)
    means = []
    for count in tqdm(range(1, max(1, most) + 1), "distances", leave=False):
        pairs = zip(np.array_split(first, count), np.array_split(second, count), strict=True)
        means.append(np.mean([frechet(part, other, axes=None) for part, other in pairs]))
    scores = {"fid": float(means[0])}
    if most > 1:
        scores["fid, extrapolated"] = float(np.polyfit(np.arange(1, most + 1), means, 1)[1])
    if len(other_half) > 1:
        scores["fid of halves"] = frechet(half, other_half, axes=None)
    return scores


def measure_fid(names: list[str], inception: Path | None, threads: int) -> tuple[dict[str, float], dict[str, Any]]:
    """(fid_scores of the pictures of two folders, what they are computed from {name: number or word}).

    names: folders or patterns. inception: of inception_features; without it the network of load_features. Raises
    UserError.
    """
    files = [named_files(name) for name in names]
    features, side = (inception_features(inception), INCEPTION_SIDE) if inception else (load_features(threads), SIDE)
    first, second = (features_of(name, each, side, features) for name, each in zip(names, files, strict=True))
    return fid_scores(first, second), {"network": "InceptionV3" if inception else "EfficientNet-Lite0",
                                       "pictures": [len(first), len(second)]}
