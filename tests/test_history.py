import dataclasses
import json

import numpy as np

from mdvae.history import History


def example():
    terms = {"loss": np.array([3.0, 1.0, 2.0]), "validation_loss": np.array([4.0, 1.5, 2.5]), "beta": np.ones(3)}
    return History(terms, 1, "all 3 epochs done", 90, 10, 1.25)


def test_the_kept_epoch():
    assert example().n_epochs == 3
    assert example().best() == {"loss": 1.0, "validation_loss": 1.5, "beta": 1.0}


def test_whether_it_was_interrupted():
    assert not example().interrupted
    assert dataclasses.replace(example(), stopped="interrupted in epoch 3 of 20").interrupted


def test_round_trip_through_json():
    history = example()
    again = History.from_dict(json.loads(json.dumps(history.to_dict())))
    assert again.to_dict() == history.to_dict()
    for name, values in history.terms.items():
        np.testing.assert_array_equal(again.terms[name], values)
        assert again.terms[name].dtype == np.float64
