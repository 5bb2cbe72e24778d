"""Several models have the means and deviations of their own evaluations."""

import csv
import json

import numpy as np
import pytest

import mdvae


@pytest.fixture(scope="module")
def models(frames):
    untrained = [mdvae.build(frames, latent_dim=2, hidden=(16,), seed=seed) for seed in (0, 1)]
    return mdvae.train_ensemble(untrained, frames, epochs=3, progress=False)


@pytest.fixture(scope="module")
def found(models, chain):
    return mdvae.evaluate_ensemble(models, chain, n_generated=50)


def test_means_are_of_the_single_evaluations(found, models, chain):
    one, other = (mdvae.evaluate(model, chain, n_generated=50) for model in models)
    rows = {(row["quantity"], row["of"]): row for row in found.rows()}
    row = rows["RMSD, mean", "decoded and restored"]
    means = one.reconstruction.rmsd.mean(), other.reconstruction.rmsd.mean()
    np.testing.assert_allclose(row["mean"], np.mean(means), rtol=1e-6)
    np.testing.assert_allclose(row["standard_deviation"], np.std(means, ddof=1), rtol=1e-4)
    np.testing.assert_allclose([row["smallest"], row["largest"]], sorted(means), rtol=1e-6)
    assert row["standard_deviation"] > 0
    assert row["n_models"] == 2
    values = one.ensemble.rows[0][2].value, other.ensemble.rows[0][2].value
    np.testing.assert_allclose(rows["radius of gyration, W1", "generated"]["mean"], np.mean(values), rtol=1e-6)


def test_prints_and_saves(found, tmp_path):
    text = str(found)
    assert text.startswith("2 models; of each: 30 held-out frames, 2 latent dimensions")
    for words in ("reconstruction", "ensemble", "structures", "± sd", "Verdicts:\n- as a coordinate: "):
        assert words in text
    found.save(tmp_path / "e.json")
    found.save(tmp_path / "e.csv")
    assert len(json.loads((tmp_path / "e.json").read_text())["each"]) == 2
    with (tmp_path / "e.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(list(found.rows()))


def test_what_cannot_be_compared(models, frames, chain):
    with pytest.raises(ValueError, match="at least 2 of them, got 1"):
        mdvae.evaluate_ensemble(models[:1], chain)
    with pytest.raises(ValueError, match="2 and 3 latent dimensions"):
        mdvae.evaluate_ensemble([models[0], mdvae.build(frames, latent_dim=3)], chain)
