"""The three sizes of networks that are compared, and what their arithmetic comes to."""

import dataclasses
from itertools import pairwise

LATENT_DIM = 2
LEARNING_RATE = 1e-3


@dataclasses.dataclass(frozen=True)
class Size:
    """Plain perceptrons, the decoder the encoder's reverse; how many samples make an epoch."""

    n_features: int
    hidden: tuple[int, ...]
    batch_size: int
    n_samples: int
    latent_dim: int = LATENT_DIM

    @property
    def encoder(self):
        """Widths, from the features to means and widths of the posterior."""
        return (self.n_features, *self.hidden, 2 * self.latent_dim)

    @property
    def decoder(self):
        return (self.latent_dim, *self.hidden[::-1], self.n_features)

    @property
    def n_parameters(self):
        return sum((n_in + 1) * n_out for widths in (self.encoder, self.decoder) for n_in, n_out in pairwise(widths))

    @property
    def training_operations(self):
        """Of the matrix products of a sample: once forward, twice backward, a product and a sum each."""
        return 3 * operations(self.encoder) + 3 * operations(self.decoder)

    def __str__(self):
        widths = "-".join(map(str, self.hidden))
        return f"{self.n_features} features, {widths}, batch {self.batch_size}, {self.n_parameters} parameters"


def operations(widths):
    """Of the matrix products that take one sample through layers of these widths."""
    return sum(2 * n_in * n_out for n_in, n_out in pairwise(widths))


SIZES = {
    "S": Size(24, (256, 256, 256), 32, 8_192),
    "M": Size(66, (64, 64), 256, 102_400),
    "L": Size(642, (512, 256, 128), 256, 10_240),
}
