"""A patch discriminator: teaches the decoder texture that a regression loss averages away.

Its receptive field is PATCH pixels: the other losses train the positions of clouds. Isola et al., Image-to-image
translation with conditional adversarial networks, arXiv 1611.07004, section 3.2; loss: hinge, Lim and Ye, Geometric
GAN, arXiv 1705.02894.
"""
from typing import Any

from build_network import SpaceToDepth
from networks.backend import Tensor, keras, layers, ops
from training.devices import added_loss, parts

PATCH = 22  # pixels, receptive field
AMPLIFIED = 10  # factor for fine structure, which is a tenth as strong as clouds in a sky
KERNELS = ((3, 1, 64), (4, 2, 128), (3, 1, 128), (1, 1, 1))  # size, stride, filters, on 2x2 pixels folded into channels


class Discriminator(layers.Layer):
    """Pictures float [B, H, W, 3], in any range -> how real each patch looks, float32 [B, H/4, W/4, 1]."""

    def build(self, shape: Any = None) -> None:
        self.fold = SpaceToDepth(2, dtype=self.dtype_policy)
        self.kernels, self.biases, depth = [], [], 24
        for index, (size, _, filters) in enumerate(KERNELS):
            self.kernels.append(self.add_weight(shape=(size, size, depth, filters), initializer="he_normal",
                                                name=f"kernel_{index}"))
            self.biases.append(self.add_weight(shape=(filters,), initializer="zeros", name=f"bias_{index}"))
            depth = filters

    def call(self, pictures: Tensor, learns: bool = True) -> Tensor:
        """learns=False: gradients reach the pictures but not the weights, for the loss of the decoder."""
        use = (lambda weight: weight) if learns else ops.stop_gradient
        fine = AMPLIFIED * (pictures - ops.average_pool(pictures, 3, 1, "same"))
        x = self.fold(ops.cast(ops.concatenate([pictures, fine], axis=-1), self.compute_dtype))
        for index, (_, stride, _) in enumerate(KERNELS):
            x = ops.leaky_relu(x, 0.2) if index else x
            kernel, bias = (ops.cast(use(ops.convert_to_tensor(weights[index])), self.compute_dtype)
                            for weights in (self.kernels, self.biases))
            x = ops.conv(x, kernel, strides=stride, padding="same") + bias
        return ops.cast(x, "float32")


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Hinge loss of the answers, float: trains them to be above 1 for real and below -1 for decoded pictures."""
    return ops.mean(ops.relu(1 - real)) + ops.mean(ops.relu(1 + fake))


class AdversarialTokenizer(keras.Model):
    """A tokenizer in training with its discriminator; one optimizer trains both.

    weight: weight of the adversarial loss. It grows from 0 to this value over the first quarter of `images`, while the
    discriminator learns.
    """

    def __init__(self, tokenizer: Any, weight: float, images: int) -> None:
        super().__init__(name="adversarial_tokenizer")
        self.exported, self.weight, self.ramp = tokenizer, weight, images / 4
        self.discriminator = Discriminator(name="discriminator")
        self.discriminator.build()
        self.seen = self.add_weight(shape=(), initializer="zeros", trainable=False, name="seen", dtype="float32")
        self.deceived = keras.metrics.Mean("deceived")
        self.built = True

    def call(self, pictures: Tensor, training: bool = False) -> Tensor:
        return self.exported(pictures, training=training)

    def compute_loss(self, x: Tensor = None, y: Tensor = None, y_pred: Tensor = None, sample_weight: Tensor = None,
                     training: bool = True) -> Tensor:
        fake, real = 2 * y_pred - 1, ops.cast(x, "float32") / 127.5 - 1
        self.seen.assign(self.seen + ops.cast(parts() * ops.shape(x)[0], "float32"))
        opinion = self.discriminator(fake, learns=False)
        learned = discriminator_loss(self.discriminator(real), self.discriminator(ops.stop_gradient(fake)))
        self.deceived.update_state(ops.mean(ops.cast(opinion > 0, "float32")))
        strength = self.weight * ops.minimum(self.seen / self.ramp, 1.0)
        loss = self.exported.reconstruction_loss(x, y_pred) + added_loss(self)
        return loss - strength * ops.mean(opinion) + learned
