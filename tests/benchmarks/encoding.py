"""encoding: latent points of 1 000 000 posed frames of 22 atoms, size M; million frames per second, and the share of
the floor, the encoder's own matrix products as fast as NumPy multiplies large matrices. mdvae is `encode_posed`; by
hand is PyTorch without gradients, which like NumPy takes chunks of 4096 frames; mlcolvar takes the whole array at once;
deeptime is `transform`, which samples. By hand and NumPy have mdvae's weights. Largest difference: of their points from
mdvae's.
"""

import os

import numpy as np
from sizes import SIZES, operations
from synthetic import helices
from timing import in_turns, installed, large_product, operations_per_second

import mdvae
from mdvae._memory import aligned
from mdvae.latent.encoding import encode_posed

SIZE, N_FRAMES, CHUNK = SIZES["M"], 1_000_000, 4096


def untrained():
    """A model, and frames in its pose, where `read` would put so many."""
    frames = mdvae.read(helices(5000, SIZE.n_features // 3), periodic=False, center="geometry")
    model = mdvae.build(frames, latent_dim=SIZE.latent_dim, hidden=SIZE.hidden, residual=False, seed=0)
    many = aligned((N_FRAMES, *frames.coordinates.shape[1:]))
    many[:] = np.resize(frames.coordinates, many.shape)
    return model, many


def weights(model):
    """Of plain layers that do the same: what the encoder subtracts and divides by goes into the first of them."""
    encoder = model.vae.encoder
    layers = [(np.asarray(layer.weight), np.asarray(layer.bias)) for layer in encoder.layers]
    (first, bias), *rest = layers
    scale = np.broadcast_to(np.asarray(encoder.scale), first.shape[1])
    return [(first / scale, bias - (first / scale) @ np.asarray(encoder.shift)), *rest]


def by_numpy(layers, x):
    last = len(layers) - 1

    def one(chunk):
        for i, (weight, bias) in enumerate(layers):
            chunk = chunk @ weight.T + bias
            if i < last:
                chunk /= 1 + np.exp(-chunk)
        return chunk[:, : SIZE.latent_dim]

    return lambda: np.concatenate([one(x[first : first + CHUNK]) for first in range(0, len(x), CHUNK)])


def by_others(layers, x):
    if not installed("torch"):
        return dict.fromkeys(("by hand, 1", "by hand, 2", "deeptime", "mlcolvar"))
    import networks
    import torch

    network, data = networks.Network(SIZE), torch.from_numpy(x)
    linear = [layer for layer in network.encoder if isinstance(layer, torch.nn.Linear)]
    for layer, (weight, bias) in zip(linear, layers, strict=True):
        layer.weight.data, layer.bias.data = torch.tensor(weight), torch.tensor(bias)

    def by_hand(n_threads):
        def job():
            torch.set_num_threads(n_threads)
            with torch.no_grad():
                return torch.cat([network.encode(chunk) for chunk in data.split(CHUNK)]).numpy()

        return job

    jobs = {f"by hand, {n}": by_hand(n) for n in sorted({1, os.cpu_count() or 1})}
    return jobs | {"deeptime": of_deeptime(networks, x), "mlcolvar": of_mlcolvar(networks, data)}


def of_deeptime(networks, x):
    if not installed("deeptime"):
        return None
    from deeptime.decomposition.deep import TVAEModel

    model = TVAEModel(*networks.networks_of_deeptime(SIZE))
    return lambda: model.transform(x)


def of_mlcolvar(networks, data):
    if not installed("mlcolvar", "lightning"):
        return None
    import torch

    model = networks.network_of_mlcolvar(SIZE).eval()

    def job():
        torch.set_num_threads(networks.USUAL_THREADS)
        with torch.no_grad():
            return model(data).numpy()

    return job


def encoding():
    model, coordinates = untrained()
    x, layers = coordinates.reshape(N_FRAMES, -1), weights(model)
    jobs = {"mdvae": lambda: encode_posed(model, coordinates), "NumPy": by_numpy(layers, x)}
    jobs |= by_others(layers, x) | {"floor": large_product()}
    last = {}
    seconds, _ = in_turns(jobs, after=last.__setitem__)
    floor = operations_per_second(seconds.pop("floor")) / operations(SIZE.encoder)
    print(f"{'':14}{'million/s':>10}{'floor':>8}{'mdvae over it':>15}   largest difference")
    for name, job in jobs.items():
        if name == "floor":
            print(f"{name:14}{floor / 1e6:10.2f}")
        elif job is None:
            print(f"{name:14}{'–':>10}{'–':>8}{'–':>15}")
        else:
            same = name not in ("mdvae", "deeptime", "mlcolvar")
            apart = f"   {np.abs(last[name] - last['mdvae']).max():.1e}" if same else ""
            speed = N_FRAMES / seconds[name]
            print(
                f"{name:14}{speed / 1e6:10.2f}{100 * speed / floor:6.0f} %{seconds[name] / seconds['mdvae']:15.2f}"
                + apart
            )
