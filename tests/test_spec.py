import dataclasses
import importlib.util
import json

import pytest

import mdvae.spec
from mdvae.spec import ACTIVATIONS, ALIGNMENTS, LIKELIHOODS, PRIORS, REPRESENTATIONS, Spec

ACCEPTED = {
    "defaults": {},
    "smallest": {"n_atoms": 1, "latent_dim": 1},
    "as many latent dimensions as features": {"latent_dim": 12},
    "in space": {"dim": 3, "latent_dim": 18},
    "linear": {"hidden": ()},
    "one layer": {"hidden": (7,)},
    "fixed width": {"likelihood": "fixed_gaussian", "width": 0.01},
    "squared error": {"likelihood": "squared_error"},
    **{f"alignment {name}": {"alignment": name} for name in ALIGNMENTS},
    **{f"activation {name}": {"activation": name} for name in ACTIVATIONS},
}


def spec(**changes):
    return Spec(**({"n_atoms": 6, "dim": 2} | changes))


@pytest.mark.parametrize("case", ACCEPTED)
def test_round_trip_through_json(case):
    one = spec(**ACCEPTED[case])
    again = Spec.from_dict(json.loads(json.dumps(one.to_dict())))
    assert again == one
    assert hash(again) == hash(one)
    assert {name: getattr(one, name) for name in ACCEPTED[case]} == ACCEPTED[case]


def test_number_of_features():
    assert spec().n_features == 12
    assert spec(dim=3).n_features == 18


def test_layers_are_kept_as_a_tuple():
    assert spec(hidden=(8, 4)).to_dict()["hidden"] == [8, 4]
    assert Spec.from_dict(spec().to_dict() | {"hidden": [8, 4]}).hidden == (8, 4)


def test_it_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec().latent_dim = 3


def choices(names):
    return "expected one of " + ", ".join(map(repr, names))


def unguarded():
    """`Spec` as its users meet it: without the annotation checks that pytest puts around it."""
    location = importlib.util.spec_from_file_location("unguarded_spec", mdvae.spec.__file__)
    module = importlib.util.module_from_spec(location)
    location.loader.exec_module(module)
    return module.Spec


REFUSED = {
    "unknown alignment": ({"alignment": "best"}, ValueError, ["alignment='best' is not known", choices(ALIGNMENTS)]),
    "unknown representation": (
        {"representation": "internal"},
        ValueError,
        ["representation='internal' is not known", choices(REPRESENTATIONS)],
    ),
    "kinked activation": ({"activation": "relu"}, ValueError, ["activation='relu'", choices(ACTIVATIONS)]),
    "unknown likelihood": ({"likelihood": "student"}, ValueError, ["likelihood='student'", choices(LIKELIHOODS)]),
    "unknown prior": ({"prior": "flow"}, ValueError, ["prior='flow'", choices(PRIORS)]),
    "one dimension": ({"dim": 1}, ValueError, ["dim=1 is not known", "2, 3"]),
    "four dimensions": ({"dim": 4}, ValueError, ["dim=4 is not known"]),
    "broken dimension": ({"dim": 3.0}, TypeError, ["dim must be a whole number, got 3.0"]),
    "no atoms": ({"n_atoms": 0}, ValueError, ["n_atoms must be at least 1, got 0"]),
    "broken atoms": ({"n_atoms": 2.5}, TypeError, ["n_atoms must be a whole number, got 2.5"]),
    "no latent dimension": ({"latent_dim": 0}, ValueError, ["latent_dim must be at least 1, got 0"]),
    "negative latent dimension": ({"latent_dim": -1}, ValueError, ["latent_dim must be at least 1, got -1"]),
    "latent dimension in words": ({"latent_dim": "2"}, TypeError, ["latent_dim must be a whole number, got '2'"]),
    "latent dimension true": ({"latent_dim": True}, TypeError, ["latent_dim must be a whole number, got True"]),
    "more latent dimensions than features": (
        {"latent_dim": 13},
        ValueError,
        ["latent_dim=13 is larger than the number of features", "6 atoms x 2 = 12"],
    ),
    "empty layer": ({"hidden": [8, 0]}, ValueError, ["hidden layer size must be at least 1, got 0"]),
    "broken layer": ({"hidden": [8, 4.5]}, TypeError, ["hidden layer size must be a whole number, got 4.5"]),
    "width of another likelihood": ({"width": 0.1}, ValueError, ["width=0.1 belongs to likelihood='fixed_gaussian'"]),
    "no width": ({"likelihood": "fixed_gaussian"}, ValueError, ["needs width > 0", "got None"]),
    "zero width": ({"likelihood": "fixed_gaussian", "width": 0.0}, ValueError, ["needs width > 0", "got 0.0"]),
    "negative width": ({"likelihood": "fixed_gaussian", "width": -1.0}, ValueError, ["needs width > 0"]),
    "infinite width": ({"likelihood": "fixed_gaussian", "width": float("inf")}, ValueError, ["needs width > 0"]),
    "width not a number": ({"likelihood": "fixed_gaussian", "width": float("nan")}, ValueError, ["got nan"]),
    "unknown entries": (
        {"symmetry": 3, "charge": 1},
        ValueError,
        ["unknown entries ['charge', 'symmetry']", "a newer mdvae may read it"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_say_what_was_expected_and_given(case):
    changes, kind, words = REFUSED[case]
    with pytest.raises(kind) as caught:
        unguarded().from_dict(spec().to_dict() | changes)
    for expected in words:
        assert expected in str(caught.value)
