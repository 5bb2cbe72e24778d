import dataclasses
import importlib.util
import json

import pytest

import mdvae.spec
from mdvae.spec import ACTIVATIONS, ALIGNMENTS, LIKELIHOODS, POSTERIORS, PRIORS, REPRESENTATIONS, Spec

ACCEPTED = {
    "defaults": {},
    "smallest": {"n_atoms": 1, "latent_dim": 1},
    "as many latent dimensions as features": {"latent_dim": 12},
    "in space": {"dim": 3, "latent_dim": 18},
    "linear": {"hidden": ()},
    "one layer": {"hidden": (7,)},
    "fixed width": {"likelihood": "fixed_gaussian", "width": 0.01},
    "squared error": {"likelihood": "squared_error"},
    "internal": {"representation": "internal", "latent_dim": 13},
    "internal, two atoms": {"representation": "internal", "n_atoms": 2, "latent_dim": 1},
    "distances": {"representation": "distances", "latent_dim": 15},
    "chosen": {"representation": "chosen", "features": ("distance 0 5", "contact 1 4"), "contact_radius": 0.6},
    "chosen, unaligned": {
        "representation": "chosen",
        "features": ("distance 0 5",),
        "latent_dim": 1,
        "alignment": "none",
    },
    "torsions": {"representation": "chosen", "features": ("torsion 0 1 2 3",), "dim": 3},
    "torsions by name": {"representation": "chosen", "features": ("phi", "psi ALA2"), "dim": 3, "latent_dim": 9},
    "low rank": {"likelihood": "low_rank_gaussian", "rank": 3},
    "full rank": {"likelihood": "low_rank_gaussian", "rank": 12},
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
    # 5 bonds and 4 turns; 5 bonds, 4 angles and 3 dihedral angles: what goes round counts twice
    assert spec(representation="internal").n_features == 5 + 2 * 4
    assert spec(representation="internal", dim=3).n_features == 5 + 4 + 2 * 3
    assert spec(representation="internal", dim=3, n_atoms=2, latent_dim=1).n_features == 1


def chosen(*features, **changes):
    return spec(representation="chosen", features=features, latent_dim=1, dim=3, **changes)


def test_number_of_chosen_features():
    """Cosine and sine of a torsion; while it is a name, only a topology can say how many there are."""
    assert spec(representation="distances").n_features == spec(representation="distances", dim=3).n_features == 15
    assert chosen("distance 0 1", "contact 0 2", "torsion 0 1 2 3").n_features == 4
    assert chosen("distance 0 1").explicit
    assert not chosen("distance 0 1", "phi").explicit
    with pytest.raises(ValueError, match="how many features distance 0 1, phi are is known once a model is built"):
        _ = chosen("distance 0 1", "phi").n_features


def test_the_contact_radius_is_filled_in_where_it_is_needed():
    assert chosen("distance 0 1").contact_radius is None
    assert chosen("contact 0 1").contact_radius == 0.45


def test_features_are_plain_words():
    assert chosen(" distance  0   -1").features == ("distance 0 5",)
    assert Spec.from_dict(chosen("phi").to_dict()).features == ("phi",)


def test_the_rank_is_filled_in_where_it_is_needed():
    """So that a file says it, whatever a later version chooses."""
    assert spec().rank is None
    assert spec(likelihood="low_rank_gaussian").rank == 12
    assert spec(n_atoms=50, likelihood="low_rank_gaussian").to_dict()["rank"] == mdvae.spec._RANK


def test_descriptions_from_before_there_were_all_fields_are_read():
    later = ("rank", "features", "contact_radius")
    older = {name: value for name, value in spec().to_dict().items() if name not in later}
    assert Spec.from_dict(older) == spec()


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
        {"representation": "contacts"},
        ValueError,
        ["representation='contacts' is not known", choices(REPRESENTATIONS)],
    ),
    "internal coordinates of one atom": (
        {"representation": "internal", "n_atoms": 1},
        ValueError,
        ["representation='internal' needs at least 2 atoms, got 1; use 'cartesian'"],
    ),
    "internal coordinates in one unit": (
        {"representation": "internal", "likelihood": "fixed_gaussian", "width": 0.1},
        ValueError,
        ["mixes lengths and angles and needs likelihood='gaussian'", "got 'fixed_gaussian'"],
    ),
    "internal coordinates by squares": (
        {"representation": "internal", "likelihood": "squared_error"},
        ValueError,
        ["mixes lengths and angles", "got 'squared_error'"],
    ),
    "internal coordinates without a pose": (
        {"representation": "internal", "likelihood": "gaussian", "alignment": "none"},
        ValueError,
        ["forgets how a frame is turned", "use 'superposition' or 'principal'"],
    ),
    "more latent dimensions than internal coordinates": (
        {"representation": "internal", "likelihood": "gaussian", "latent_dim": 14},
        ValueError,
        ["latent_dim=14 is larger than the number of features: 6 atoms have 13"],
    ),
    "more latent dimensions than chosen features": (
        {"representation": "chosen", "likelihood": "gaussian", "features": ["distance 0 1"], "latent_dim": 2},
        ValueError,
        ["latent_dim=2 is larger than the number of features: those chosen", "are 1"],
    ),
    "nothing chosen": (
        {"representation": "chosen", "likelihood": "gaussian"},
        ValueError,
        ["representation='chosen' needs features, such as 'phi' or 'distance 0 9'"],
    ),
    "chosen in vain": (
        {"representation": "internal", "likelihood": "gaussian", "features": ["phi"]},
        ValueError,
        ["features are for representation='chosen', got 'internal'"],
    ),
    "chosen in one word": (
        {"representation": "chosen", "likelihood": "gaussian", "features": "phi"},
        TypeError,
        ["features must be a list of words, such as ['phi', 'distance 0 9'], got 'phi'"],
    ),
    "chosen features in one unit": (
        {"representation": "chosen", "features": ["distance 0 1", "contact 2 3"], "likelihood": "isotropic_gaussian"},
        ValueError,
        ["mixes lengths and angles and needs likelihood='gaussian'", "got 'isotropic_gaussian'"],
    ),
    "distances in one unit": (
        {"representation": "distances", "likelihood": "low_rank_gaussian"},
        ValueError,
        ["representation='distances' has features of many sizes and needs likelihood='gaussian'"],
    ),
    "distances of one atom": (
        {"representation": "distances", "likelihood": "gaussian", "n_atoms": 1},
        ValueError,
        ["representation='distances' needs at least 2 atoms, got 1"],
    ),
    "torsions in the plane": (
        {"representation": "chosen", "likelihood": "gaussian", "features": ["torsion 0 1 2 3"]},
        ValueError,
        ["'torsion 0 1 2 3' needs three dimensions, and the frames are in the plane"],
    ),
    "a radius of no contact": (
        {"representation": "chosen", "likelihood": "gaussian", "features": ["distance 0 1"], "contact_radius": 0.3},
        ValueError,
        ["contact_radius=0.3 is of contacts, and none is among the features"],
    ),
    "no radius": (
        {"representation": "chosen", "likelihood": "gaussian", "features": ["contact 0 1"], "contact_radius": 0},
        ValueError,
        ["contact_radius must be above 0", "got 0.0"],
    ),
    "kinked activation": ({"activation": "relu"}, ValueError, ["activation='relu'", choices(ACTIVATIONS)]),
    "unknown likelihood": ({"likelihood": "student"}, ValueError, ["likelihood='student'", choices(LIKELIHOODS)]),
    "unknown prior": ({"prior": "horseshoe"}, ValueError, ["prior='horseshoe'", choices(PRIORS)]),
    "unknown posterior": ({"posterior": "sparse"}, ValueError, ["posterior='sparse'", choices(POSTERIORS)]),
    "components of no mixture": (
        {"prior": "flow", "n_components": 8},
        ValueError,
        ["n_components=8 belongs to prior="],
    ),
    "no components": ({"prior": "vamp", "n_components": 0}, ValueError, ["n_components must be at least 1, got 0"]),
    "broken components": (
        {"prior": "mixture", "n_components": 2.5},
        TypeError,
        ["n_components must be a whole number"],
    ),
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
    "rank of another likelihood": ({"rank": 4}, ValueError, ["rank=4 belongs to likelihood='low_rank_gaussian'"]),
    "rank 0": ({"likelihood": "low_rank_gaussian", "rank": 0}, ValueError, ["rank must be at least 1, got 0"]),
    "broken rank": ({"likelihood": "low_rank_gaussian", "rank": 1.5}, TypeError, ["rank must be a whole number"]),
    "rank above the number of features": (
        {"likelihood": "low_rank_gaussian", "rank": 13},
        ValueError,
        ["rank=13 is larger than the number of features, 12"],
    ),
    "width of low rank": (
        {"likelihood": "low_rank_gaussian", "width": 0.1},
        ValueError,
        ["belongs to likelihood='fixed"],
    ),
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
