"""Train the super sampler, a diffusion model that adds detail to a decoded picture, at four times its size.

  python diffusion_model_upscale.py --dataset_location photographs/ --scale_down 1
  python diffusion_model_upscale.py --pack sharp.npy --tokenizer_run wide --run_name wide --minutes 60
  python diffusion_model_upscale.py --pack sharp.npy --tokenizer_run thesis --preset thesis --run_name thesis

It learns the edges = sharp picture - blurry picture, where blurry = the sharp one at a quarter of its size, through the
tokenizer and back. The model lands in models/sharpen_<run_name>, metrics and pictures in runs/sharpen_<run_name> and
wandb. After Saharia et al., SR3, arXiv 2104.07636.
"""
import cv2
import numpy as np

from backend import compiled, keras, layers, ops
from build_network import (
    DepthToSpace,
    SpaceToDepth,
    downscale,
    residual_block,
    sinusoidal_embedding,
    thesis_block,
    upscale,
)
from dataset import add_data_options, load_crops
from diffusion import angle, clean_from_epsilon, clean_from_velocity, epsilon_from_clean, sample_with_detail, velocity
from log_and_save import (
    add_logging_options,
    check_pair,
    load_config,
    load_weights,
    model_folder,
    picture_grid,
)
from metrics import psnr, spectrum_distance
from parallel import on_all_devices, own_rows
from tokenizer import load_tokenizer
from training import add_training_options, held_back, start_run, start_weights, train, with_preset
from utilities import ROOT, add_machine_options, command_parser, number, prepare_machine, run_command, to_bytes

FACTOR = 4
PRESETS = {
    "default": {
        "model": {"style": "local", "filters": [64, 96, 160], "blocks": 2, "schedule": "wide", "predicts": "v",
                  "mean_share": 0.1},
        "img_size": 256, "images": 30_000, "batch_size": 8, "learning_rate": 5e-4, "schedule": "cosine",
        "weight_decay": 1e-4, "beta_2": 0.99, "ema": 0.998,
    },
    "thesis": {
        "model": {"style": "thesis", "filters": [32, 48, 64, 96, 160, 192, 256], "blocks": 3, "schedule": "thesis",
                  "predicts": "noise", "mean_share": 0.0},
        "img_size": 512, "images": 700_000, "batch_size": 4, "learning_rate": 1e-3, "schedule": 0.5,
        "weight_decay": 1e-4, "beta_2": 0.999, "ema": 0.999,
    },
}


# ---------------------------------------------------------------------------------------------------------------------
# Model


def build_network(config):
    """(low-resolution picture [B, h, w, 3] in [-1, 1], noisy edges [B, 4h, 4w, 3], noise rate [B, 1]) -> prediction.

    All but the first and last step run at the low resolution, where they cost a sixteenth: the noisy edges enter
    through a pixel unshuffle. Works for any h and w that are multiples of 4.
    """
    low, noisy, level = layers.Input((None, None, 3)), layers.Input((None, None, 3)), layers.Input((1,))
    condition = layers.Dense(128, activation="silu")(NoiseEmbedding(64)(level))
    x = layers.Concatenate()([SpaceToDepth(FACTOR)(noisy), low])
    x = layers.Conv2D(config["filters"][0], 3, padding="same")(x)
    skips = []
    for depth, filters in enumerate(config["filters"]):
        x = downscale(x, filters) if depth else x
        for _ in range(config["blocks"]):
            x = residual_block(x, filters, condition)
        skips.append(x)
    for depth in reversed(range(len(config["filters"]))):
        filters = config["filters"][depth]
        if depth < len(config["filters"]) - 1:
            x = layers.Concatenate()([upscale(x, filters), skips[depth]])
        for _ in range(config["blocks"]):
            x = residual_block(x, filters, condition)
    x = layers.Conv2D(3 * FACTOR**2, 3, padding="same", kernel_initializer="zeros", dtype="float32")(x)
    return keras.Model([low, noisy, level], DepthToSpace(FACTOR, dtype="float32")(x), name="network")


def build_thesis_network(config):
    """The U-Net of the thesis (figure 3.8) at full resolution; same inputs and output as build_network."""
    low, noisy, level = layers.Input((None, None, 3)), layers.Input((None, None, 3)), layers.Input((1,))
    blurry = layers.UpSampling2D(FACTOR, interpolation="bicubic")(low)
    embedded = layers.Reshape((1, 1, 32))(NoiseEmbedding(32)(level))
    x = layers.Conv2D(config["filters"][0], 1)(layers.Concatenate()([blurry, noisy]))
    x = x + layers.Conv2D(config["filters"][0], 1)(embedded)
    skips = []
    for depth, filters in enumerate(config["filters"]):
        x = thesis_block(x, filters, stride=2) if depth else x
        for _ in range(config["blocks"]):
            x = thesis_block(x, filters)
        skips.append(x)
    for depth in reversed(range(len(config["filters"]) - 1)):
        filters = config["filters"][depth]
        x = layers.Concatenate()([thesis_block(x, filters, stride=2, upscaling=True), skips[depth]])
        for _ in range(config["blocks"]):
            x = thesis_block(x, filters)
    x = layers.Conv2D(3, 1, kernel_initializer="zeros", dtype="float32")(x)
    return keras.Model([low, noisy, level], x, name="network")


@keras.saving.register_keras_serializable("outpainting")
class NoiseEmbedding(layers.Layer):
    """Noise rate [B, 1] -> sines and cosines [B, size]."""

    def __init__(self, size, **kwargs):
        super().__init__(**kwargs)
        self.size = size

    def call(self, level):
        return ops.cast(sinusoidal_embedding(level, self.size), self.compute_dtype)

    def compute_output_shape(self, shape):
        return shape[0], self.size


class SuperSampler(keras.Model):
    """Denoises edges. Trained on (sharp uint8 [B, 4h, 4w, 3], low uint8 [B, h, w, 3]).

    config: the "model" entry of a preset, with "edge_scale", the standard deviation of edges in [0, 1], by which they
    are divided so that the network sees unit variance. In "mean_share" of the training pictures the noisy edges are
    zeros at time 1, which tells nothing of the picture, so that the estimate there is the mean of all that fit.
    """

    def __init__(self, config):
        super().__init__(name="sharpen")
        self.config = config
        build = build_thesis_network if config["style"] == "thesis" else build_network
        self.network = build(config)
        self.seeds = keras.random.SeedGenerator()
        self.noise_loss, self.image_loss = keras.metrics.Mean("noise_loss"), keras.metrics.Mean("image_loss")
        self.built = True

    @property
    def multiple(self):
        """Height and width of low-resolution pictures must be multiples of this."""
        levels = 2 ** (len(self.config["filters"]) - 1)
        return max(1, levels // FACTOR) if self.config["style"] == "thesis" else levels

    def estimate(self, low, noisy, time):
        """Clean edges, float32 [B, 4h, 4w, 3], from low in [-1, 1], noisy edges and a scalar time in [0, 1]."""
        turned = angle(time, self.config["schedule"])
        signal, noise = ops.cos(turned), ops.sin(turned)
        # One row for all pictures: a matrix product rounds differently for other numbers of rows.
        level = ops.reshape(noise, (1, 1))
        return self._clean(self.network([low, noisy, level]), noisy, signal, noise)

    def _clean(self, prediction, noisy, signal, noise):
        convert = clean_from_velocity if self.config["predicts"] == "v" else clean_from_epsilon
        return convert(noisy, ops.cast(prediction, "float32"), signal, noise)

    def call(self, inputs, training=False):
        sharp, low = (ops.cast(part, "float32") / 127.5 - 1 for part in inputs)
        edges = (sharp - bicubic(low)) / (2 * self.config["edge_scale"])
        batch, *shape = ops.shape(edges)

        def drawn(kind, *shape):
            return own_rows(lambda rows: kind((rows, *shape), dtype="float32", seed=self.seeds), batch)

        time = drawn(keras.random.uniform, 1, 1, 1)
        of_mean = drawn(keras.random.uniform, 1, 1, 1) < self.config["mean_share"]
        turned = angle(ops.where(of_mean, 1.0, time), self.config["schedule"])
        signal, noise = ops.cos(turned), ops.sin(turned)
        epsilon = ops.where(of_mean, 0.0, drawn(keras.random.normal, *shape))
        noisy = ops.where(of_mean, 0.0, signal * edges + noise * epsilon)
        prediction = self.network([low, noisy, noise[:, :, 0, 0]], training=training)
        return prediction, edges, epsilon, noisy, signal, noise

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        prediction, edges, epsilon, noisy, signal, noise = y_pred
        prediction = ops.cast(prediction, "float32")
        clean = self._clean(prediction, noisy, signal, noise)
        noise_loss = ops.mean(ops.abs(epsilon_from_clean(noisy, clean, signal, noise) - epsilon))
        self.noise_loss.update_state(noise_loss)
        self.image_loss.update_state(ops.mean(ops.abs(clean - edges)) * self.config["edge_scale"])
        if self.config["predicts"] == "v":
            return ops.mean((prediction - velocity(edges, epsilon, signal, noise)) ** 2)
        return noise_loss


def bicubic(pictures):
    """Upscale float [B, h, w, 3] to [B, 4h, 4w, 3]."""
    _, height, width, _ = ops.shape(pictures)
    return ops.image.resize(pictures, (height * FACTOR, width * FACTOR), interpolation="bicubic")


def load_super_sampler(tokenizer_config, tokenizer_folder, run=None, folder=None):
    """The shipped super sampler or that of a run: (SuperSampler, config). Refuses one of another tokenizer."""
    folder = folder or model_folder("sharpen", run)
    config = load_config(folder, "sharpen")
    check_pair(config, tokenizer_config, folder, tokenizer_folder)
    model = SuperSampler(config["model"])
    load_weights(folder, model)
    return model, config


# ---------------------------------------------------------------------------------------------------------------------
# Training


def shrink(pictures):
    """uint8 [B, 4h, 4w, 3] -> uint8 [B, h, w, 3], by averaging."""
    size = (pictures.shape[2] // FACTOR, pictures.shape[1] // FACTOR)
    return np.stack([cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in pictures])


def make_blurry(tokenizer):
    """Function uint8 [B, 4h, 4w, 3] -> uint8 [B, h, w, 3]: shrunk, through the tokenizer and back."""
    through = compiled(tokenizer, lambda pictures: tokenizer.decode(tokenizer.encode(pictures)))
    return lambda sharp: to_bytes(through(shrink(sharp)))


def upscale_pictures(estimate, low, steps, schedule, edge_scale, seed=0, solver="dpm", detail=1.0, limit=None):
    """Sample sharp pictures, uint8 [B, 4h, 4w, 3], from low ones, uint8 [B, h, w, 3].

    estimate: function (low in [-1, 1], noisy edges, time) -> clean edges, e.g. SuperSampler.estimate.
    detail, limit: of diffusion.sample_with_detail.
    """
    low = low.astype(np.float32) / 127.5 - 1
    base = np.asarray(bicubic(low))
    start = np.random.default_rng(seed).standard_normal(base.shape, np.float32)
    edges = sample_with_detail(lambda noisy, time: np.asarray(estimate(low, noisy, np.float32(time))), start, steps,
                               schedule, detail, limit, solver=solver)
    return to_bytes((base + 2 * edge_scale * edges) / 2 + 0.5)


def make_report(model, sharp, low, steps):
    """The function that measures a super sampler on held-back pictures at every tick; bicubic is the one to beat."""
    estimate = compiled(model, model.estimate)
    plain = to_bytes(np.asarray(bicubic(low.astype(np.float32) / 255)))
    baseline = {"bicubic_psnr": float(psnr(plain, sharp).mean()),
                "bicubic_spectrum_db": spectrum_distance(plain, sharp)}

    def report():
        numbers, rows = {}, []
        for prefix, detail in (("mean_", 0.0), ("", 1.0)) if model.config["mean_share"] else (("", 1.0),):
            result = np.concatenate([
                upscale_pictures(estimate, low[start:start + 4], steps, model.config["schedule"],
                                 model.config["edge_scale"], detail=detail) for start in range(0, len(low), 4)])
            numbers |= {f"{prefix}psnr": float(psnr(result, sharp).mean()),
                        f"{prefix}spectrum_db": spectrum_distance(result, sharp)}
            rows.append(result[:4])
        return numbers | baseline, {"upscaled": picture_grid([plain[:4], *rows, sharp[:4]])}

    return report


def build_parser():
    parser = command_parser(__doc__)
    add_data_options(parser, scale_down=1)
    group = parser.add_argument_group("model")
    group.add_argument("--tokenizer_run", metavar="NAME", help="tokenizer to use (default: the shipped one)")
    group.add_argument("--img_size", type=number(int, 64, 1024), metavar="PX",
                       help="side of the sharp training crops in pixels (default: the preset's)")
    group.add_argument("--diffusion_steps", type=number(int, 1, 1000), default=10, metavar="N",
                       help="steps of the sample pictures")
    add_training_options(parser, PRESETS)
    add_logging_options(parser)
    add_machine_options(parser, workers=True)
    return parser


def main(args):
    precision = prepare_machine(args)
    settings = with_preset(args, PRESETS)
    tokenizer, tokenizer_config, tokenizer_folder = load_tokenizer(args.tokenizer_run)
    multiple = 2 ** (len(settings["model"]["filters"]) - 1) * FACTOR * tokenizer.config["downscale"] // 4
    img_size = max(1, (args.img_size or settings["img_size"]) // multiple) * multiple
    crops = load_crops(args, img_size, dev_count=32)
    dev = held_back(crops)
    blurry = make_blurry(tokenizer)
    low = np.concatenate([blurry(dev[start:start + 8]) for start in range(0, len(dev), 8)])
    edges = dev / np.float32(255) - np.asarray(bicubic(low.astype(np.float32) / 255))
    settings["model"] = {"edge_scale": round(float(edges.std()), 5), **settings["model"]}
    config = {"kind": "sharpen", "run": args.run_name, "model": settings["model"],
              "tokenizer": {"run": args.tokenizer_run, "fingerprint": tokenizer_config["fingerprint"]},
              "settings": {key: value for key, value in settings.items() if key != "model"},
              "precision": precision, "data": crops.description}
    run = start_run("sharpen", args, config)
    with on_all_devices():
        model = SuperSampler(settings["model"])
    start_weights(args, "sharpen", model)

    def batches(start):
        return (((sharp, blurry(sharp)),) for sharp in crops.batches(settings["batch_size"], args.seed, start))

    train(model, run, batches, settings, make_report(model, dev, low, args.diffusion_steps), config,
          ROOT / "models" / f"sharpen_{args.run_name}", args.tick, args.minutes)


if __name__ == "__main__":
    run_command(main, build_parser())
