"""Blocks of the networks, as layers and functions of Keras tensors [batch, height, width, channels].

The default blocks normalise each position separately. So the result at a position depends only on its receptive field,
and a picture may be processed in tiles. thesis_block is the block of the thesis (group norm, transposed convolutions).
"""
import math
from typing import Any

from networks.backend import Shape, Tensor, keras, layers, ops


@keras.saving.register_keras_serializable("outpainting")
class SpaceToDepth(layers.Layer):
    """[B, H, W, C] -> [B, H/block, W/block, C * block**2]; H and W must be multiples of block."""

    def __init__(self, block: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.block = block

    def call(self, x: Tensor) -> Tensor:
        _, height, width, channels = ops.shape(x)
        block = self.block
        x = ops.reshape(x, (-1, height // block, block, width // block, block, channels))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        return ops.reshape(x, (-1, height // block, width // block, channels * block**2))

    def compute_output_shape(self, shape: Shape) -> Shape:
        batch, height, width, channels = shape
        return batch, height and height // self.block, width and width // self.block, channels * self.block**2


@keras.saving.register_keras_serializable("outpainting")
class DepthToSpace(layers.Layer):
    """Inverse of SpaceToDepth."""

    def __init__(self, block: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.block = block

    def call(self, x: Tensor) -> Tensor:
        _, height, width, channels = ops.shape(x)
        block = self.block
        depth = channels // block**2
        x = ops.reshape(x, (-1, height, width, block, block, depth))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        return ops.reshape(x, (-1, height * block, width * block, depth))

    def compute_output_shape(self, shape: Shape) -> Shape:
        batch, height, width, channels = shape
        return batch, height and height * self.block, width and width * self.block, channels // self.block**2


@keras.saving.register_keras_serializable("outpainting")
class RotaryAttention(layers.Layer):
    """Multi-head self-attention over all positions of a grid, with rotary positions for rows and columns.

    Half of each head's channels are rotated by the row, half by the column. So scores depend only on differences of
    positions, and the grid may have any size (RoFormer, arXiv 2104.09864, eq. 34, applied to each axis). Queries and
    keys are normalised, which keeps training in bfloat16 stable.
    """

    def __init__(self, heads: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.heads = heads

    def build(self, shape: Shape) -> None:
        channels = shape[-1]
        self.size = channels // self.heads
        self.project_in = layers.Dense(3 * channels, use_bias=False, name="project_in", dtype=self.dtype_policy)
        self.project_out = layers.Dense(channels, kernel_initializer=small_weights(), name="project_out",
                                        dtype=self.dtype_policy)
        self.query_norm = layers.RMSNormalization(name="query_norm", dtype=self.dtype_policy)
        self.key_norm = layers.RMSNormalization(name="key_norm", dtype=self.dtype_policy)
        self.project_in.build(shape)
        self.project_out.build(shape)
        self.query_norm.build((None, self.size))
        self.key_norm.build((None, self.size))

    def call(self, x: Tensor) -> Tensor:
        _, height, width, channels = ops.shape(x)
        positions = height * width
        parts = ops.reshape(self.project_in(x), (-1, positions, 3 * self.heads, self.size))
        query, key, value = ops.split(parts, 3, axis=2)
        cos, sin = self._turns(height, width, query.dtype)
        query = turn(self.query_norm(query), cos, sin)
        key = turn(self.key_norm(key), cos, sin)
        query, key, value = (ops.transpose(part, (0, 2, 1, 3)) for part in (query, key, value))
        scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))) * self.size**-0.5
        weights = ops.cast(ops.softmax(ops.cast(scores, "float32")), value.dtype)
        mixed = ops.transpose(ops.matmul(weights, value), (0, 2, 1, 3))
        return self.project_out(ops.reshape(mixed, (-1, height, width, channels)))

    def _turns(self, height: int, width: int, dtype: str) -> tuple[Tensor, Tensor]:
        places = ops.arange(height * width)
        return turns(ops.stack([places // width, places % width], axis=-1)[None], self.size, dtype)

    def compute_output_shape(self, shape: Shape) -> Shape:
        return shape


def turns(places: Tensor, size: int, dtype: str) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each [B, N, 1, size / 2], of the angles by which vectors of `size` channels are rotated.

    places: rows and columns [B, N, 2]. Frequencies fall from 1 to nearly 1/100 along each axis.
    """
    frequencies = ops.exp(ops.arange(size // 4, dtype="float32") * (-math.log(100.0) / (size // 4)))
    angles = ops.cast(places, "float32")[..., None] * frequencies
    angles = ops.reshape(angles, (*ops.shape(angles)[:2], 1, size // 4 * 2))
    return ops.cast(ops.cos(angles), dtype), ops.cast(ops.sin(angles), dtype)


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate vectors [B, N, heads, size]: each channel of the first half forms a plane with one of the second half."""
    first, second = ops.split(x, 2, axis=-1)
    return ops.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def fixed_positions(places: Tensor, width: int, dtype: str) -> Tensor:
    """Cosines and sines [B, N, width] of rows and columns [B, N, 2], with the frequencies of `turns`. After Vaswani et
    al., arXiv 1706.03762, section 3.5, for each axis."""
    return ops.concatenate(turns(places, width, dtype), axis=-1)[:, :, 0]


def small_weights() -> keras.initializers.Initializer:
    """Initial weights for the last layer of a residual branch, so that the branch starts near zero."""
    return keras.initializers.VarianceScaling(0.01, "fan_in", "truncated_normal")


def residual_block(x: Tensor, filters: int, condition: Tensor = None) -> Tensor:
    """Residual block without normalisation: SiLU, 3x3, SiLU, 3x3. A condition [B, C] scales and shifts the features
    between the convolutions.

    Image restoration needs no normalisation (EDSR, arXiv 1707.02921), which would take a third of the time on a CPU.
    """
    if x.shape[-1] != filters:
        x = layers.Conv2D(filters, 1)(x)
    y = layers.Conv2D(filters, 3, padding="same")(layers.Activation("silu")(x))
    if condition is not None:
        scale_shift = layers.Dense(2 * filters, kernel_initializer="zeros")(condition)
        scale, shift = ops.split(layers.Reshape((1, 1, 2 * filters))(scale_shift), 2, axis=-1)
        y = y * (1 + scale) + shift
    y = layers.Activation("silu")(y)
    y = layers.Conv2D(filters, 3, padding="same", kernel_initializer=small_weights())(y)
    return x + y


def attention_block(x: Tensor) -> Tensor:
    """Attention among all positions as a residual branch, with a head for every 32 channels."""
    return x + RotaryAttention(max(1, x.shape[-1] // 32))(layers.RMSNormalization()(x))


def downscale(x: Tensor, filters: int) -> Tensor:
    """Halve height and width: 4x4 convolution with stride 2."""
    return layers.Conv2D(filters, 4, strides=2, padding="same")(x)


def upscale(x: Tensor, filters: int) -> Tensor:
    """Double height and width: nearest neighbour, then 3x3, to avoid checkerboard artefacts (distill.pub 2016/00003).
    """
    return layers.Conv2D(filters, 3, padding="same")(layers.UpSampling2D(2)(x))


def sinusoidal_embedding(level: Tensor, size: int, lowest: float = 1.0, highest: float = 1000.0) -> Tensor:
    """Embed a noise level [B, 1] in [0, 1] as size sines and cosines with frequencies from lowest to highest."""
    frequencies = ops.exp(ops.linspace(math.log(lowest), math.log(highest), size // 2))
    angles = 2 * math.pi * ops.cast(level, "float32") * frequencies
    return ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)


@keras.saving.register_keras_serializable("outpainting")
class NoiseEmbedding(layers.Layer):
    """The sinusoidal_embedding of N noise rates: [B, N] in [0, 1] -> [B, N * size]."""

    def __init__(self, size: int, lowest: float = 1.0, highest: float = 1000.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size, self.lowest, self.highest = size, lowest, highest

    def call(self, rates: Tensor) -> Tensor:
        columns = ops.split(rates, rates.shape[-1], axis=-1)
        return ops.cast(ops.concatenate([sinusoidal_embedding(column, self.size, self.lowest, self.highest)
                                         for column in columns], axis=-1), self.compute_dtype)

    def compute_output_shape(self, shape: Shape) -> Shape:
        return shape[0], shape[1] * self.size


def thesis_block(x: Tensor, filters: int, stride: int = 1, upscaling: bool = False) -> Tensor:
    """Residual block of the thesis (figures 3.2 and 3.7): 3x3 convolutions, group norm, swish, 1x1 shortcut."""
    def convolution(width: int, size: int, strides: int = 1) -> keras.Layer:
        if upscaling and strides > 1:
            return layers.Conv2DTranspose(width, size, strides=strides, padding="same")
        return layers.Conv2D(width, size, strides=strides, padding="same")

    shortcut = x
    if stride > 1 or x.shape[-1] != filters:
        shortcut = convolution(filters, stride if stride > 1 else 1, stride)(x)
    y = layers.Activation("silu")(layers.GroupNormalization(8)(x))
    y = convolution(filters, 3, stride)(y)
    y = layers.Activation("silu")(layers.GroupNormalization(8)(y))
    y = layers.Conv2D(filters, 3, padding="same")(y)
    return shortcut + y
