"""Useful arithmetic of the diffusion world model, counted from shapes alone.

Useful is what any implementation of the same function has to compute. A convolution's tap that meets padding is not,
nor a tap that never meets anything else; what two calls share counts once. Only sums of products count (dense layers
and convolutions), a multiplication and an addition as two operations; norms, activations and the optimiser do not.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from dwm_jax.networks.temporal_unet import EMBEDDING_SIZE


class Layer(NamedTuple):
    """A layer's products for one sample: `pairs` vectors of `inputs` entries times an (inputs, outputs) matrix."""

    name: str
    pairs: int
    inputs: int
    outputs: int
    # Its input is data or noise: no gradient with respect to it is wanted.
    reads_data: bool = False

    @property
    def flop(self) -> int:
        """Operations of the forward pass."""
        return 2 * self.pairs * self.inputs * self.outputs


def touching_taps(length: int, taps: int, padding: int, stride: int = 1, right_padding: int | None = None) -> int:
    """How many (output, tap) pairs of a convolution meet data: out[t] sees in[t * stride + tap - padding].

    Length 8, five taps, padding 2: 3 + 4 + 4 * 5 + 4 + 3 = 34. Length 2: taps 2-3 and 1-2, 4.

    Args:
      length: L of the input.
      taps: of the kernel.
      padding: implied zeros on the left; on the right too unless `right_padding` says otherwise.
      stride: distance of the outputs.
    """
    right = padding if right_padding is None else right_padding
    num_outputs = (length + padding + right - taps) // stride + 1
    starts = [t * stride - padding for t in range(num_outputs)]
    return sum(max(0, min(taps, length - start) - max(0, -start)) for start in starts)


def embedding_layers(name: str, inputs: int, hidden: Sequence[int], reads_data: bool = True) -> Iterator[Layer]:
    """The dense layers of one embedding, EMBEDDING_SIZE wide at the end."""
    sizes = (inputs, *hidden, EMBEDDING_SIZE)
    for index, (size, width) in enumerate(pairwise(sizes)):
        yield Layer(f"{name} {index}", 1, size, width, reads_data and index == 0)


def condition_layers(action_size: int) -> list[Layer]:
    """Embeddings of a_t and of the return-to-go: once per sample, however often the denoiser is called."""
    hidden = (EMBEDDING_SIZE, 4 * EMBEDDING_SIZE)
    return [*embedding_layers("return", 1, hidden), *embedding_layers("action", action_size, hidden)]


def step_layers() -> list[Layer]:
    """Embedding of the diffusion step."""
    return list(embedding_layers("step", EMBEDDING_SIZE, (4 * EMBEDDING_SIZE,)))


def row_layers(length: int, row_size: int, width: int, multipliers: Sequence[int]) -> list[Layer]:
    """Everything along the rows, from noisy rows (T, D) to predicted noise, of one call of the denoiser.

    Mirrors `TemporalUnet.denoise`: a level halves an even length and leaves an odd one as it is.
    """
    layers: list[Layer] = []
    widths = [width * multiplier for multiplier in multipliers]

    def convolution(name: str, inputs: int, outputs: int) -> None:
        layers.append(Layer(name, touching_taps(length, 5, 2), inputs, outputs, not layers))

    def residual(name: str, inputs: int, outputs: int) -> None:
        reads_data = not layers
        convolution(f"{name} first", inputs, outputs)
        layers.append(Layer(f"{name} embedding", 1, 3 * EMBEDDING_SIZE, outputs))
        convolution(f"{name} second", outputs, outputs)
        if inputs != outputs:
            layers.append(Layer(f"{name} skip", length, inputs, outputs, reads_data))

    channels, lengths = row_size, []
    for level, outputs in enumerate(widths):
        residual(f"down {level}a", channels, outputs)
        residual(f"down {level}b", outputs, outputs)
        channels = outputs
        lengths.append(length)
        if level < len(widths) - 1 and length % 2 == 0:
            layers.append(Layer(f"halve {level}", touching_taps(length, 3, 1, 2), channels, channels))
            length //= 2
    residual("middle a", channels, channels)
    residual("middle b", channels, channels)
    for level in reversed(range(1, len(widths))):
        outputs = widths[level - 1]
        residual(f"up {level}a", channels + widths[level], outputs)
        residual(f"up {level}b", outputs, outputs)
        channels = outputs
        if length < lengths[level - 1]:
            # Four taps at stride 2: two convolutions of two taps, one for even outputs and one for odd ones.
            pairs = touching_taps(length, 2, 1, right_padding=0) + touching_taps(length, 2, 0, right_padding=1)
            layers.append(Layer(f"double {level}", pairs, channels, channels))
            length *= 2
    convolution("end block", channels, width)
    layers.append(Layer("end", length, width, row_size))
    return layers


def training_flop(*, length: int, row_size: int, action_size: int, width: int, multipliers: Sequence[int]) -> int:
    """Operations of the loss and its gradient for one sample.

    Every layer three times - forward, gradient of the weights, gradient of the input - save the last where the input
    is data.

    Args:
      length: T.
      row_size: D: the observation, the reward and, with terminations, one entry more.
    """
    rows = row_layers(length, row_size, width, multipliers)
    layers = [*rows, *condition_layers(action_size), *step_layers()]
    return sum((2 if layer.reads_data else 3) * layer.flop for layer in layers)


def trajectory_flop(
    *,
    length: int,
    row_size: int,
    action_size: int,
    width: int,
    multipliers: Sequence[int],
    num_sampling_steps: int,
    guided: bool,
) -> int:
    """Operations of one sampled trajectory in a large batch.

    The embeddings of action and return once; at each of the N steps both branches of the guidance, which share what
    reads the noisy rows. The diffusion step's embedding serves the whole batch and counts nothing.

    Args:
      length: T.
      row_size: D: the observation, the reward and, with terminations, one entry more.
      guided: two branches (guidance weight other than 1), or one.
    """
    rows = row_layers(length, row_size, width, multipliers)
    per_step = sum(layer.flop if layer.reads_data or not guided else 2 * layer.flop for layer in rows)
    return num_sampling_steps * per_step + sum(layer.flop for layer in condition_layers(action_size))
