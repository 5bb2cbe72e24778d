"""The same auto-encoders by others: loops in PyTorch, written by hand, deeptime's and mlcolvar's.

The loss of each is in proportion to half the squared deviations plus the KL divergence, which Adam does not tell from
the loss itself. What a job of training gives back reconstructs: posterior mean, decoded.
"""

import itertools
import logging
import warnings
from itertools import pairwise

import torch
from sizes import LEARNING_RATE
from timing import installed

# As many as PyTorch takes by itself.
USUAL_THREADS = torch.get_num_threads()


def perceptron(widths):
    layers = []
    for n_in, n_out in pairwise(widths):
        layers += [torch.nn.Linear(n_in, n_out), torch.nn.SiLU()]
    return torch.nn.Sequential(*layers[:-1])


class Network(torch.nn.Module):
    """Encoder and decoder, as one writes them."""

    def __init__(self, size):
        super().__init__()
        self.encoder, self.decoder = perceptron(size.encoder), perceptron(size.decoder)

    def restart(self, seed):
        """Other weights in the same place: what is compiled stays."""
        torch.manual_seed(seed)
        for layer in (*self.encoder, *self.decoder):
            if isinstance(layer, torch.nn.Linear):
                layer.reset_parameters()

    def encode(self, x):
        return self.encoder(x).chunk(2, dim=1)[0]

    def loss(self, x):
        mean, log_std = self.encoder(x).chunk(2, dim=1)
        z = mean + log_std.exp() * torch.randn_like(mean)
        kl = 0.5 * (mean.square() + (2 * log_std).exp() - 1) - log_std
        return (0.5 * (self.decoder(z) - x).square().sum() + kl.sum()) / len(x)


def reconstruction(encode, decode):
    """Function of an array, which is what the rest is measured with."""

    def reconstruct(x):
        with torch.no_grad():
            return decode(encode(torch.from_numpy(x))).numpy()

    return reconstruct


def loop(size, x, n_epochs, n_threads, fused=False, compiled=False):
    """A loop as one writes it; None if its step cannot be compiled."""
    network, data = Network(size), torch.from_numpy(x)
    # Compiled code is for a number of threads.
    torch.set_num_threads(n_threads)
    loss = torch.compile(network.loss) if compiled else network.loss
    if compiled and not works(loss, data[: size.batch_size]):
        return None
    seeds = itertools.count()

    def job():
        torch.set_num_threads(n_threads)
        network.restart(next(seeds))
        optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, fused=fused)
        for _ in range(n_epochs):
            for batch in data[torch.randperm(len(data))].split(size.batch_size):
                optimizer.zero_grad()
                loss(batch).backward()
                optimizer.step()
        return reconstruction(network.encode, network.decoder)

    return job


def works(loss, batch):
    """Whether what PyTorch compiles can be compiled here: it calls the machine's own compiler."""
    try:
        loss(batch).backward()
    except Exception as error:
        print(f"torch.compile: {type(error).__name__}: {str(error).strip().splitlines()[0]}")
        return False
    return True


def by_deeptime(size, x, n_epochs):
    """deeptime's variational auto-encoder without a time lag; None if it is missing."""
    if not installed("deeptime"):
        return None
    from deeptime.decomposition.deep import TVAE
    from deeptime.util.data import TimeLaggedDataset
    from torch.utils.data import BatchSampler, DataLoader, RandomSampler

    data = TimeLaggedDataset(x, x)
    # A batch at a time: example by example, as a loader does it by itself, takes several times as long.
    batches = BatchSampler(RandomSampler(data), size.batch_size, drop_last=False)
    loader = DataLoader(data, sampler=batches, batch_size=None)
    # It sums squared deviations over the batch, but means the KL divergence, and divides that by the features.
    beta = 2.0 * size.batch_size * size.n_features
    seeds = itertools.count()

    def job():
        torch.set_num_threads(USUAL_THREADS)
        torch.manual_seed(next(seeds))
        encoder, decoder = networks_of_deeptime(size)
        estimator = TVAE(encoder, decoder, learning_rate=LEARNING_RATE, beta=beta)
        model = estimator.fit(loader, n_epochs=n_epochs).fetch_model()
        return reconstruction(lambda x: model.encoder(x)[0], model.decoder)

    return job


def networks_of_deeptime(size):
    from deeptime.decomposition.deep import TVAEEncoder
    from deeptime.util.torch import MLP

    encoder = TVAEEncoder([*size.encoder[:-1], size.latent_dim], nonlinearity=torch.nn.SiLU)
    return encoder, MLP(list(size.decoder), nonlinearity=torch.nn.SiLU)


def by_mlcolvar(size, x, n_epochs):
    """mlcolvar's variational auto-encoder and Lightning's trainer, which keeps no records; None if one is missing."""
    if not installed("mlcolvar", "lightning"):
        return None
    import lightning
    from mlcolvar.data import DictDataset, DictModule

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    seeds = itertools.count()
    data = DictDataset({"data": torch.from_numpy(x)})
    silent = {name: False for name in ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")}

    def job():
        torch.set_num_threads(USUAL_THREADS)
        torch.manual_seed(next(seeds))
        model = network_of_mlcolvar(size)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer = lightning.Trainer(accelerator="cpu", max_epochs=n_epochs, limit_val_batches=0, **silent)
            trainer.fit(model, DictModule(data, lengths=[1.0], batch_size=size.batch_size))
        return reconstruction(model.eval(), model.decoder)

    return job


def network_of_mlcolvar(size):
    from mlcolvar.cvs import VariationalAutoEncoderCV

    # Its loss is the mean over the features, too.
    options = {"norm_in": None, "optimizer": {"lr": LEARNING_RATE}}
    layers = [size.n_features, *size.hidden]
    model = VariationalAutoEncoderCV(size.latent_dim, layers, beta=2 / size.n_features, options=options)
    # It does not know SiLU by name.
    for part in (model.encoder.nn, model.decoder.nn):
        for i, layer in enumerate(part):
            if isinstance(layer, torch.nn.ReLU):
                part[i] = torch.nn.SiLU()
    return model


def counted(size):
    """How many parameters the networks of each have."""
    networks = {"by hand": [Network(size)]}
    if installed("deeptime"):
        networks["deeptime"] = networks_of_deeptime(size)
    if installed("mlcolvar", "lightning"):
        networks["mlcolvar"] = [network_of_mlcolvar(size)]
    return {
        name: sum(parameter.numel() for module in modules for parameter in module.parameters())
        for name, modules in networks.items()
    }
