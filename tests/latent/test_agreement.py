import dataclasses

import numpy as np
import pytest

import mdvae
from mdvae.latent import in_double
from mdvae.latent.agreement import check_agreement, moved_frames


def test_moved_frames_are_training_frames_elsewhere(trained):
    frames, kept = moved_frames(trained), trained.data.frames
    rows = np.unique(np.linspace(0, len(kept) - 1, 8).astype(int))
    distances = [np.linalg.norm(x[:, :, None] - x[:, None], axis=-1) for x in (frames, kept[rows])]
    np.testing.assert_allclose(*distances, atol=1e-6)
    assert np.abs(frames - kept[rows]).max(axis=(1, 2)).min() > 0.1
    area = [np.linalg.det(x[:, 1:3] - x[:, :1]) for x in (frames, kept[rows])]
    np.testing.assert_allclose(*area, atol=1e-6)


def test_a_chiral_molecule_is_not_mirrored(chiral):
    model = mdvae.build(mdvae.read(chiral[0]), hidden=(8,), seed=0)
    model = mdvae.train(model, mdvae.read(chiral[0]), epochs=1, seed=0)
    frames = moved_frames(model)
    assert len({np.sign(np.linalg.det(x[[1, 3, 5]] - x[2])) for x in frames}) == 1


@pytest.fixture(scope="module")
def evaluate(trained):
    return in_double(mdvae.collective_variable(trained))


def test_the_model_agrees_with_itself(trained, evaluate):
    assert check_agreement(trained, evaluate, name="itself", tolerance=1e-12) == (0, 0)


WRONG = {
    "value": lambda z, jacobian: (z + 1e-3, jacobian),
    "derivative": lambda z, jacobian: (z, 1.001 * jacobian),
    "sign": lambda z, jacobian: (z, -jacobian),
    "order": lambda z, jacobian: (z, jacobian[:, ::-1]),
    "component": lambda z, jacobian: (z[:1], jacobian[:1]),
    "nan": lambda z, jacobian: (z * np.nan, jacobian),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_refused(name, trained, evaluate):
    with pytest.raises(ValueError, match=r"cv\.dat does not say what the model says: on 8 training frames"):
        check_agreement(trained, lambda frame: WRONG[name](*evaluate(frame)), name="cv.dat", tolerance=1e-6)


def test_a_model_without_frames_cannot_be_checked(trained, evaluate):
    with pytest.raises(ValueError, match="keeps no training frames"):
        check_agreement(dataclasses.replace(trained, data=None), evaluate, name="cv", tolerance=1e-6)
