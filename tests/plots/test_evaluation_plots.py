"""What is drawn of an evaluation is what its records say, with units, on the page, also where there is little of it."""

import dataclasses
import itertools
import subprocess
import sys
import warnings

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from scipy.integrate import trapezoid

import mdvae
from mdvae import plots
from mdvae.evaluation.comparing import Distance
from mdvae.evaluation.ensemble import Contacts, Fluctuations, Marginal, Ramachandran
from mdvae.evaluation.kinetics import Kinetics
from mdvae.evaluation.latent_space import LatentSpace
from mdvae.evaluation.reconstruction import Reconstruction
from mdvae.latent.encoding import encode_posed
from mdvae.plots.comparison import GENERATED, HELD_OUT, TRAINING, with_unit, written
from mdvae.plots.fluctuations import name_atoms

DISTANCE = Distance(value=0.0123, floor=0.0045, low=0.003, high=0.006, blocks=0.005)
NO_DISTANCE = Distance(*[float("nan")] * 5)


def shares(shape, seed=0):
    counts = np.random.default_rng(seed).poisson(3.0, shape)
    return counts / max(counts.sum(), 1)


def make_marginal(family="distance", name="GLU1-CA–GLU7-CA", unit="nm", n_bins=30, distance=DISTANCE):
    edges = np.linspace(-180, 180, n_bins + 1) if unit == "degrees" else np.linspace(0.3, 1.2, n_bins + 1)
    generated, held_out, training = (shares(n_bins, seed) for seed in range(3))
    return Marginal(
        family, name, unit, edges, generated, held_out, training, 0.8 * held_out, 1.2 * held_out, distance, distance
    )


def make_map(n_bins=24, empty=False):
    edges = np.linspace(-180, 180, n_bins + 1)
    maps = [np.zeros((n_bins, n_bins)) if empty else shares((n_bins, n_bins), seed) for seed in range(3)]
    return Ramachandran("ALA2", edges, *maps, DISTANCE)


def make_fluctuations(n_atoms=30, unit="nm", correlation=0.93, names=None):
    names = tuple(f"GLU{i // 5 + 1}-C{i % 5}" for i in range(n_atoms)) if names is None else names
    values = [np.random.default_rng(seed).uniform(0.05, 0.3, n_atoms) for seed in range(3)]
    return Fluctuations(unit, names, *values, correlation, correlation, DISTANCE)


def make_contacts(n=20, residue="GLU", unit="nm", nan=False):
    pairs = np.array([(i, j) for i in range(n) for j in range(i + 4, n)], dtype=int).reshape(-1, 2)
    values = [np.random.default_rng(seed).uniform(0, 1, len(pairs)) for seed in range(3)]
    if nan:
        values[0][:2] = np.nan
    return Contacts(unit, 0.45, tuple(f"{residue}{i + 1}-CA" for i in range(n)), pairs, *values, DISTANCE)


def make_kinetics(n_lags=6, latent_dim=2, n_timescales=2, missing=False, frame_time=0.5, unit="ps"):
    lags = 2 ** np.arange(n_lags)
    rng = np.random.default_rng(0)
    timescales = 40.0 / np.arange(1, n_timescales + 1) * rng.uniform(0.8, 1, (3, n_lags, n_timescales))
    if missing:
        timescales[:] = np.nan
    autocorrelation = np.exp(-lags[:, None] / rng.uniform(5, 50, latent_dim))
    # Five folds with these means and standard errors.
    scores = np.array([[1.91], [1.95], [1.62]]) + np.array([[0.03], [0.02], [0.05]]) * np.sqrt(2) * np.arange(-2, 3)
    if missing:
        scores = scores * np.nan
    methods = ("latent", "TICA", "PCA")
    bands = 0.8 * timescales, 1.3 * timescales
    return Kinetics(unit, frame_time, lags, autocorrelation, methods, timescales, *bands, 4, scores, 0, 0)


def make_reconstruction(n_frames=500, n_atoms=12, unit="nm"):
    rng = np.random.default_rng(0)
    fields = {field.name: rng.uniform(0.05, 0.1, n_frames) for field in dataclasses.fields(Reconstruction)}
    fields |= {"rmsd_pca": rng.uniform(0.1, 0.2, n_frames), "rmsd_per_atom": rng.uniform(0.05, 0.1, n_atoms)}
    return Reconstruction(**(fields | {"unit": unit, "thermal": 0.1, "validity": {}}))


def make_latent_space(n=(400, 300, 200), unit="nm"):
    rng = np.random.default_rng(0)
    fields = {field.name: 0.0 for field in dataclasses.fields(LatentSpace)}
    names = ("nearest_generated", "nearest_held_out", "nearest_training")
    fields |= {name: rng.gamma(4.0, 0.02, count) for name, count in zip(names, n, strict=True)}
    points = {name: rng.normal(size=(50, 2)) for name in ("held_out", "training")}
    return LatentSpace(**(fields | points | {"unit": unit, "copied": 0.0123, "coverage": 0.97}))


def cloud(n, latent_dim, seed=0):
    return np.random.default_rng(seed).normal(size=(n, latent_dim))


LONG = "MET101-CA–ARG102-CA–ILE103-CA–ILE104-CA"
FIGURES = {
    "marginal": lambda: plots.marginal(make_marginal()),
    "marginal, torsion of four residues": lambda: plots.marginal(make_marginal("torsion", LONG, "degrees")),
    "marginal, reduced": lambda: plots.marginal(make_marginal("end to end", "", "reduced", distance=NO_DISTANCE)),
    "marginals, one": lambda: plots.marginals([make_marginal()]),
    "marginals, two columns": lambda: plots.marginals([make_marginal("end to end", "B1–B12", "reduced")] * 3, 2),
    "marginals, long names": lambda: plots.marginals(
        [make_marginal("radius of gyration", "", "reduced"), make_marginal("torsion", LONG, "degrees")] * 3
    ),
    "ramachandran": lambda: plots.ramachandran(make_map()),
    "ramachandran, empty": lambda: plots.ramachandran(make_map(empty=True)),
    "ramachandran map": lambda: plots.ramachandran_map(make_map(), "training"),
    "rmsf": lambda: plots.rmsf(make_fluctuations()),
    "rmsf, one atom": lambda: plots.rmsf(make_fluctuations(1, correlation=float("nan"))),
    "rmsf, reduced": lambda: plots.rmsf(make_fluctuations(300, "reduced", correlation=-0.5)),
    "contacts": lambda: plots.contact_map(make_contacts()),
    "contacts, long names": lambda: plots.contact_map(make_contacts(150, "HIS10")),
    "contacts, one pair": lambda: plots.contact_map(make_contacts(5, unit="reduced")),
    "contact difference": lambda: plots.contact_difference(make_contacts(150, "HIS10", nan=True)),
    "timescales": lambda: plots.implied_timescales(make_kinetics()),
    "timescales, one lag": lambda: plots.implied_timescales(make_kinetics(1, n_timescales=1, unit="frames")),
    "timescales, none": lambda: plots.implied_timescales(make_kinetics(missing=True)),
    "autocorrelation": lambda: plots.autocorrelation(make_kinetics()),
    "autocorrelation 1-D": lambda: plots.autocorrelation(make_kinetics(1, latent_dim=1)),
    "autocorrelation 16-D": lambda: plots.autocorrelation(make_kinetics(latent_dim=16)),
    "scores": lambda: plots.vamp_scores(make_kinetics()),
    "scores, none": lambda: plots.vamp_scores(make_kinetics(missing=True)),
    "errors": lambda: plots.reconstruction_errors(make_reconstruction()),
    "errors, one frame": lambda: plots.reconstruction_errors(make_reconstruction(1, 1, "reduced")),
    "errors of atoms": lambda: plots.errors_per_atom(make_reconstruction(unit="reduced")),
    "errors of atoms, one": lambda: plots.errors_per_atom(make_reconstruction(5, 1), ["CA"]),
    "nearest": lambda: plots.nearest_training(make_latent_space()),
    "nearest, few": lambda: plots.nearest_training(make_latent_space((1, 0, 1), "reduced")),
    "density": lambda: plots.latent_density(cloud(3000, 2), points=cloud(40, 2)),
    "density 1-D": lambda: plots.latent_density(cloud(3000, 1), points=cloud(40, 1)),
    "density 5-D, no free energy": lambda: plots.latent_density(cloud(300, 5), dims=(3, 1), free_energy=False),
    "density 1-D, no free energy": lambda: plots.latent_density(cloud(300, 1), free_energy=False),
    "density, one frame": lambda: plots.latent_density(np.zeros((1, 2)), points=np.ones((1, 2))),
}


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_lies_off_the_page_and_every_scale_is_labeled(name):
    figure = FIGURES[name]()
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= width
    assert box.y1 <= height
    assert width * 25.4 == pytest.approx(85) or width * 25.4 == pytest.approx(175)
    for ax in figure.axes:
        assert ax.get_xlabel() or not any(label.get_visible() for label in ax.get_xticklabels())
        for scale in ax.child_axes:
            assert scale.get_ylabel()


@pytest.mark.parametrize("name", FIGURES)
def test_neither_settings_nor_pyplot_are_touched(name, tmp_path):
    before = dict(matplotlib.rcParams)
    plots.save_figure(FIGURES[name](), tmp_path / "figure.pdf")
    assert dict(matplotlib.rcParams) == before


PANELS = {
    "marginal": lambda ax: plots.marginal(make_marginal(), ax),
    "ramachandran": lambda ax: plots.ramachandran_map(make_map(), ax=ax),
    "rmsf": lambda ax: plots.rmsf(make_fluctuations(), ax),
    "contacts": lambda ax: plots.contact_map(make_contacts(), ax),
    "contact difference": lambda ax: plots.contact_difference(make_contacts(), ax),
    "timescales": lambda ax: plots.implied_timescales(make_kinetics(), ax),
    "autocorrelation": lambda ax: plots.autocorrelation(make_kinetics(), ax),
    "scores": lambda ax: plots.vamp_scores(make_kinetics(), ax),
    "errors": lambda ax: plots.reconstruction_errors(make_reconstruction(), ax),
    "errors of atoms": lambda ax: plots.errors_per_atom(make_reconstruction(), ax=ax),
    "nearest": lambda ax: plots.nearest_training(make_latent_space(), ax),
    "density": lambda ax: plots.latent_density(cloud(300, 2), ax=ax),
}


@pytest.mark.parametrize("name", PANELS)
def test_panels_compose(name):
    host = Figure(figsize=(7, 3), layout="constrained")
    ax, other = host.subplots(1, 2)
    assert PANELS[name](ax) is host
    assert host.axes == [ax, other]
    assert ax.has_data()
    assert not other.has_data()
    host.draw_without_rendering()


def test_pyplot_is_never_imported():
    code = (
        "import sys; from mdvae import plots; assert 'matplotlib' not in sys.modules;"
        "import numpy as np; plots.latent_density(np.ones((2, 2)));"
        "assert 'matplotlib.pyplot' not in sys.modules;"
        "import mdvae.plots.contact_map; assert all(callable(getattr(plots, name)) for name in plots.__all__)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


class TestMarginals:
    def test_the_histograms_are_those_of_the_record(self):
        record = make_marginal()
        ax = plots.marginal(record).axes[0]
        drawn = {patch.get_label(): patch.get_data() for patch in ax.patches}
        for label, values in (
            ("held-out", record.held_out),
            ("training", record.training),
            ("generated", record.generated),
            ("held-out, 95 %", record.high),
        ):
            np.testing.assert_allclose(drawn[label].values, 100 * values)
            np.testing.assert_array_equal(drawn[label].edges, record.edges)
        np.testing.assert_allclose(drawn["held-out, 95 %"].baseline, 100 * record.low)
        assert ax.get_xlabel() == "Distance GLU1-CA–GLU7-CA (nm)"
        assert ax.get_ylabel() == "Structures per bin (%)"

    def test_colors_tell_the_three_apart(self):
        patches = {patch.get_label(): patch for patch in plots.marginal(make_marginal()).axes[0].patches}
        colors = {name: to_hex(patches[name].get_edgecolor()).upper() for name in ("held-out", "training", "generated")}
        assert colors == {"held-out": HELD_OUT, "training": TRAINING, "generated": GENERATED}

    def test_the_number_lies_above_all_bars(self):
        record = make_marginal()
        ax = plots.marginal(record).axes[0]
        assert ax.texts[0].get_text() == "$W_1$ 0.012 nm\nfloor 0.0045 nm"
        ax.figure.draw_without_rendering()
        bottom = ax.transData.inverted().transform(ax.texts[0].get_window_extent())[0, 1]
        assert bottom > 100 * max(record.high.max(), record.generated.max(), record.training.max())

    def test_torsions_are_a_whole_turn(self):
        ax = plots.marginal(make_marginal("torsion", "ALA2-C–ALA2-N", "degrees")).axes[0]
        assert ax.get_xlim() == (-180, 180)
        np.testing.assert_array_equal(ax.get_xticks(), [-180, -90, 0, 90, 180])
        assert ax.get_xlabel() == "Torsion ALA2-C–N (degrees)"
        assert "0.012°" in ax.texts[0].get_text()

    def test_angles_are_not(self):
        record = dataclasses.replace(make_marginal("angle", "", "degrees"), edges=np.linspace(100, 130, 31))
        assert plots.marginal(record).axes[0].get_xlim() == (100, 130)

    def test_one_legend_and_a_title_each(self):
        records = [make_marginal(name=""), make_marginal("bond", "C–N"), make_marginal("torsion", LONG, "degrees")]
        figure = plots.marginals(records)
        assert [text.get_text() for text in figure.legends[0].get_texts()] == [
            "held-out", "held-out, 95 %", "training", "generated",
        ]  # fmt: skip
        assert all(ax.get_legend() is None for ax in figure.axes)
        titles = [ax.get_title() for ax in figure.axes]
        assert titles[:2] == ["Distance", "Bond C–N"]
        assert "".join(titles[2].splitlines()) == f"Torsion{LONG}"
        assert [ax.get_xlabel() for ax in figure.axes] == ["Distance (nm)", "Bond (nm)", "Torsion (degrees)"]

    def test_as_many_panels_as_records(self):
        assert len(plots.marginals([make_marginal()] * 5, n_columns=3).axes) == 5

    def test_nothing_to_draw(self):
        with pytest.raises(ValueError, match="at least one marginal"):
            plots.marginals([])
        with pytest.raises(ValueError, match="one column"):
            plots.marginals([make_marginal()], 0)

    def test_empty_histograms(self):
        empty = dict.fromkeys(("generated", "held_out", "training", "low", "high"), np.zeros(30))
        ax = plots.marginal(dataclasses.replace(make_marginal(), **empty)).axes[0]
        assert ax.get_ylim() == (0, 1)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1, "1.0"), (0.0123, "0.012"), (-0.5, "−0.50"), (12.34, "12"), (99.9, "100"), (1234.5, "1234"),
     (2.34e-5, r"$2.3\times10^{-5}$"), (float("nan"), "–")],
)  # fmt: skip
def test_numbers_have_two_digits(value, text):
    assert written(value) == text
    assert with_unit(value, "nm") == f"{text} nm"
    assert with_unit(value, "degrees") == f"{text}°"
    assert with_unit(value, "reduced") == text


class TestRamachandran:
    def test_held_out_beside_generated_on_one_scale(self):
        record = make_map()
        figure = plots.ramachandran(record)
        meshes = [ax.collections[0] for ax in figure.axes]
        for mesh, values in zip(meshes, (record.held_out, record.generated), strict=True):
            # φ is along x: rows of what is drawn are ψ.
            np.testing.assert_allclose(mesh.get_array().filled(0), 100 * values.T)
        assert meshes[0].norm.vmin == meshes[1].norm.vmin
        assert meshes[0].norm.vmax == meshes[1].norm.vmax
        assert [ax.get_title() for ax in figure.axes] == ["Held-out", "Generated"]
        assert figure.get_suptitle() == "ALA2, Jensen–Shannon divergence 0.012 bits (floor 0.0045)"

    def test_empty_cells_are_white_and_the_scale_is_logarithmic(self):
        record = make_map()
        mesh = plots.ramachandran_map(record).axes[0].collections[0]
        np.testing.assert_array_equal(mesh.get_array().mask, record.generated.T == 0)
        least, most = (pick(record.generated[record.generated > 0]) for pick in (np.min, np.max))
        middle = mesh.norm(100 * np.sqrt(least * most))
        assert middle == pytest.approx((mesh.norm(100 * least) + mesh.norm(100 * most)) / 2)

    def test_axes_are_whole_turns(self):
        ax = plots.ramachandran_map(make_map()).axes[0]
        assert ax.get_xlim() == ax.get_ylim() == (-180, 180)
        np.testing.assert_array_equal(ax.get_yticks(), [-180, -90, 0, 90, 180])
        assert "degrees" in ax.get_xlabel()
        assert ax.child_axes[0].get_ylabel() == "Structures per cell (%)"

    def test_unknown_sample(self):
        with pytest.raises(ValueError, match="'held_out', 'generated', 'training'"):
            plots.ramachandran_map(make_map(), "test")


class TestFluctuations:
    def test_draws_the_three(self):
        record = make_fluctuations()
        ax = plots.rmsf(record).axes[0]
        drawn = {line.get_label().split("\n")[0]: line for line in ax.get_lines()}
        for name, values in (
            ("held-out", record.held_out),
            ("training", record.training),
            ("generated", record.generated),
        ):
            np.testing.assert_array_equal(drawn[name].get_ydata(), values)
        assert ax.get_ylabel() == "RMSF (nm)"
        assert drawn["generated"].get_label() == "generated\n$r$ = 0.93"

    def test_no_correlation_of_a_single_atom(self):
        labels = [line.get_label() for line in plots.rmsf(make_fluctuations(1, correlation=float("nan"))).axes[0].lines]
        assert labels == ["held-out", "training", "generated"]

    def test_no_atoms(self):
        with pytest.raises(ValueError, match="no atoms"):
            plots.rmsf(make_fluctuations(0))


class TestNamesOfAtoms:
    def ticks(self, names, **options):
        ax = Figure().subplots()
        kind = name_atoms(ax, names, **options)
        at = ax.get_xticks().astype(int)
        return kind, dict(zip(at.tolist(), [label.get_text() for label in ax.get_xticklabels()], strict=True))

    def test_residues_at_their_first_atoms(self):
        names = ["ACE1-C", "ACE1-O", "ALA2-N", "ALA2-CA", "NME3-N"]
        assert self.ticks(names) == ("Residue", {0: "ACE1", 2: "ALA2", 4: "NME3"})

    def test_atoms_of_one_residue_or_none(self):
        assert self.ticks(["LIG1-C1", "LIG1-O"]) == ("Atom", {0: "C1", 1: "O"})
        assert self.ticks(["B1", "B2", "B3"]) == ("Atom", {0: "B1", 1: "B2", 2: "B3"})

    def test_only_as_many_as_can_be_read(self):
        kind, ticks = self.ticks([f"GLU{i}-CA" for i in range(214)], room_mm=60)
        assert kind == "Residue"
        assert 3 <= len(ticks) <= 6
        assert all(name == f"GLU{i}" for i, name in ticks.items())


class TestContacts:
    def test_held_out_above_and_generated_below_the_diagonal(self):
        record = make_contacts()
        table = plots.contact_map(record).axes[0].images[0].get_array().filled(np.nan)
        # The lower row is drawn lower: what is above the diagonal has the larger index along y.
        for (i, j), held_out, generated in zip(record.pairs, record.held_out, record.generated, strict=True):
            assert table[j, i] == held_out
            assert table[i, j] == generated
        assert np.isfinite(table).sum() == 2 * len(record.pairs)

    def test_order_of_a_pair_does_not_matter(self):
        record = make_contacts()
        turned = dataclasses.replace(record, pairs=record.pairs[:, ::-1].copy())
        one, other = (plots.contact_map(x).axes[0].images[0].get_array() for x in (record, turned))
        np.testing.assert_array_equal(one, other)

    def test_difference_is_symmetric_about_no_color(self):
        record = make_contacts()
        ax = plots.contact_difference(record).axes[0]
        table = ax.images[0].get_array().filled(np.nan)
        np.testing.assert_array_equal(table, table.T)
        i, j = record.pairs[3]
        assert table[i, j] == record.generated[3] - record.held_out[3]
        assert ax.images[0].norm.vmin == -ax.images[0].norm.vmax
        assert ax.get_title() == "generated − held-out, mean |Δ| 0.012 (floor 0.0045)"

    def test_small_differences_look_small(self):
        record = make_contacts()
        alike = dataclasses.replace(record, generated=record.held_out + 0.001)
        assert plots.contact_difference(alike).axes[0].images[0].norm.vmax == 0.05

    def test_cutoff_is_written(self):
        for unit, text in (("nm", "0.45 nm"), ("reduced", "0.45")):
            ax = plots.contact_map(make_contacts(unit=unit)).axes[0]
            assert ax.child_axes[0].get_ylabel() == f"Contact probability (< {text})"

    @pytest.mark.parametrize("draw", [plots.contact_map, plots.contact_difference])
    def test_no_pairs(self, draw):
        with pytest.raises(ValueError, match="no contacts to draw"):
            draw(make_contacts(4))


class TestKinetics:
    def test_timescales_over_lags_in_units_of_time(self):
        record = make_kinetics()
        ax = plots.implied_timescales(record).axes[0]
        drawn = {line.get_label(): line for line in ax.get_lines()}
        for method, name in enumerate(record.methods):
            np.testing.assert_array_equal(drawn[name].get_xdata(), record.lags * 0.5)
            np.testing.assert_array_equal(drawn[name].get_ydata(), record.timescales[method, :, 0])
        assert len(ax.get_lines()) == 6
        assert ax.get_yscale() == "log"
        assert ax.get_xlabel() == "Lag (ps)"
        assert ax.get_ylabel() == "Implied timescale (ps)"

    def test_bands(self):
        record = make_kinetics(n_timescales=1)
        bands = plots.implied_timescales(record).axes[0].collections[:3]
        for band, low, high in zip(bands, record.low[..., 0], record.high[..., 0], strict=True):
            y = band.get_paths()[0].vertices[:, 1]
            assert y.min() == pytest.approx(low.min())
            assert y.max() == pytest.approx(high.max())

    def test_what_is_below_the_lag_is_gray(self):
        ax = plots.implied_timescales(make_kinetics()).axes[0]
        region = next(c for c in ax.collections if c.get_label() == "timescale < lag").get_paths()[0]
        assert region.contains_point((8.0, 7.0))
        assert not region.contains_point((8.0, 9.0))

    def test_endless_bands_do_not_spoil_the_scale(self):
        record = make_kinetics()
        record.high[:, -1] = np.inf
        record.low[:, 0] = 0.0
        low, high = plots.implied_timescales(record).axes[0].get_ylim()
        assert high < 5 * np.nanmax(record.timescales)
        assert low > 0.1 * 0.5

    def test_gaps_stay_gaps(self):
        record = make_kinetics()
        record.timescales[1, 2:], record.low[1, 2:], record.high[1, 2:] = (np.nan,) * 3
        ax = plots.implied_timescales(record).axes[0]
        tica = next(line for line in ax.get_lines() if line.get_label() == "TICA")
        assert np.isnan(tica.get_ydata()[2:]).all()
        ax.figure.draw_without_rendering()

    def test_autocorrelation(self):
        record = make_kinetics(latent_dim=3, unit="frames", frame_time=1.0)
        ax = plots.autocorrelation(record).axes[0]
        drawn = {line.get_label(): line for line in ax.get_lines()}
        for dim in range(3):
            np.testing.assert_array_equal(drawn[f"$z_{{{dim + 1}}}$"].get_ydata(), record.autocorrelation[:, dim])
        assert ax.get_xlabel() == "Lag (frames)"

    def test_many_coordinates_are_on_a_scale(self):
        ax = plots.autocorrelation(make_kinetics(latent_dim=9)).axes[0]
        assert ax.get_legend() is None
        assert ax.child_axes[0].get_ylabel() == "Latent coordinate"

    def test_scores(self):
        record = make_kinetics()
        ax = plots.vamp_scores(record).axes[0]
        np.testing.assert_array_equal([container[0].get_xdata()[0] for container in ax.containers], record.scores)
        for container, score, error in zip(ax.containers, record.scores, record.errors, strict=True):
            ends = container[2][0].get_segments()[0][:, 0]
            np.testing.assert_allclose(ends, [score - error, score + error])
        assert [label.get_text() for label in ax.get_yticklabels()] == list(record.methods)
        assert [text.get_text() for text in ax.texts] == ["1.91 ± 0.03", "1.95 ± 0.02", "1.62 ± 0.05"]
        assert ax.get_xlabel() == "VAMP-2 score of unseen frames, lag 2.0 ps"


class TestReconstruction:
    def test_histograms_and_medians(self):
        record = make_reconstruction()
        ax = plots.reconstruction_errors(record).axes[0]
        for patch, values in zip(ax.patches, (record.rmsd, record.rmsd_pca), strict=True):
            drawn = patch.get_data()
            np.testing.assert_allclose(drawn.values, 100 * np.histogram(values, drawn.edges)[0] / len(values))
        medians = [line.get_xdata()[0] for line in ax.get_lines()]
        np.testing.assert_allclose(medians, [np.median(record.rmsd), np.median(record.rmsd_pca)])
        assert ax.patches[0].get_label() == f"reconstructed (median {with_unit(medians[0], 'nm')})"
        assert ax.get_xlabel() == "RMSD (nm)"

    def test_nan_is_left_out_and_nothing_else_is_an_error(self):
        record = make_reconstruction()
        record.rmsd[:10] = np.nan
        drawn = plots.reconstruction_errors(record).axes[0].patches[0].get_data()
        assert drawn.values.sum() == pytest.approx(100)
        record.rmsd[:] = np.nan
        with pytest.raises(ValueError, match="none is finite"):
            plots.reconstruction_errors(record)

    def test_errors_of_atoms(self):
        record = make_reconstruction(n_atoms=3)
        ax = plots.errors_per_atom(record, ["ALA1-N", "ALA1-C", "GLY2-N"]).axes[0]
        np.testing.assert_array_equal(ax.get_lines()[0].get_ydata(), record.rmsd_per_atom)
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("Residue", "RMS error (nm)")
        assert plots.errors_per_atom(record).axes[0].get_xlabel() == "Atom index"
        with pytest.raises(ValueError, match="each of the 3 atoms, got 1"):
            plots.errors_per_atom(record, ["CA"])


class TestNearest:
    def test_histograms_from_zero(self):
        record = make_latent_space()
        ax = plots.nearest_training(record).axes[0]
        drawn = {patch.get_label(): patch.get_data() for patch in ax.patches}
        for name, values in (
            ("held-out", record.nearest_held_out),
            ("training", record.nearest_training),
            ("generated", record.nearest_generated),
        ):
            counts = np.histogram(values, drawn[name].edges)[0]
            np.testing.assert_allclose(drawn[name].values, 100 * counts / len(values))
        assert ax.get_xlim()[0] == 0
        assert ax.get_xlabel() == "RMSD to the nearest training frame (nm)"
        assert ax.texts[0].get_text().splitlines()[:2] == ["generated copies 1.2 %", "held-out covered 97 %"]

    def test_empty_samples_are_left_out(self):
        ax = plots.nearest_training(make_latent_space((50, 0, 50))).axes[0]
        assert [patch.get_label() for patch in ax.patches] == ["training", "generated"]
        with pytest.raises(ValueError, match="no distances"):
            plots.nearest_training(make_latent_space((0, 0, 0)))


class TestLatentDensity:
    def test_free_energy_of_a_normal_distribution(self):
        ax = plots.latent_density(cloud(200_000, 1)).axes[0]
        z, energy = ax.get_lines()[0].get_data()
        middle = np.abs(z) < 2
        # The smoothing adds its own variance, of a 90th of the range: less than 0.03.
        np.testing.assert_allclose(energy[middle], z[middle] ** 2 / 2, atol=0.15)
        assert np.nanmin(energy) == 0
        assert ax.get_ylabel() == r"Free energy ($k_\mathrm{B}T$)"

    def test_density_integrates_to_one(self):
        ax = plots.latent_density(cloud(2000, 1), free_energy=False).axes[0]
        z, density = ax.get_lines()[0].get_data()
        assert trapezoid(density, z) == pytest.approx(1, abs=0.01)

    def test_two_basins_and_their_difference(self):
        z = np.concatenate([cloud(60_000, 2) * 0.3 - 2, cloud(20_000, 2, 1) * 0.3 + 2])
        contours = plots.latent_density(z).axes[0].collections[0]
        inner = [loop for loop in contours.get_paths()[0].to_polygons() if len(loop) > 2]
        assert all(loop.mean(axis=0) == pytest.approx([-2, -2], abs=0.3) for loop in inner)
        # log 3 = 1.1: the second basin starts in the second level.
        assert contours.get_paths()[1].contains_point((2.0, 2.0))

    def test_every_frame_is_within_the_landscape(self):
        z = cloud(200, 2)
        filled = plots.latent_density(z).axes[0].collections[0]
        assert all(any(path.contains_point(point) for path in filled.get_paths()) for point in z)

    def test_chosen_dimensions_are_named(self):
        ax = plots.latent_density(cloud(100, 4), points=cloud(9, 4), dims=(3, 0)).axes[0]
        assert ax.get_xlabel() == "Latent coordinate $z_{4}$ (of 4)"
        assert ax.get_ylabel() == "Latent coordinate $z_{1}$ (of 4)"
        np.testing.assert_array_equal(np.transpose(ax.get_lines()[0].get_data()), cloud(9, 4)[:, [3, 0]])
        with pytest.raises(ValueError, match="0 to 3"):
            plots.latent_density(cloud(9, 4), dims=(0, 4))

    def test_many_points_are_dots(self):
        points = cloud(5000, 2)
        ax = plots.latent_density(cloud(100, 2), points=points).axes[0]
        np.testing.assert_array_equal(ax.collections[-1].get_offsets(), points[::3])
        joined = plots.latent_density(cloud(100, 2), points=points, joined=True).axes[0]
        assert len(joined.get_lines()[0].get_xdata()) == 5000

    def test_points_outside_are_seen(self):
        ax = plots.latent_density(cloud(100, 2), points=np.array([[30.0, -30.0], [31.0, -31.0]])).axes[0]
        assert ax.get_xlim()[1] > 31
        assert ax.get_ylim()[0] < -31

    def test_nan_is_left_out(self):
        z = cloud(100, 2)
        z[5] = np.nan
        plots.latent_density(z).draw_without_rendering()
        with pytest.raises(ValueError, match="no latent points"):
            plots.latent_density(np.full((3, 2), np.nan))


def bead_centers(collection):
    corners = [path.vertices[:-1] for path in collection.get_paths()]
    return np.array([points[:-1].mean(axis=0) for points in corners if len(points) > 10])


class TestWalk:
    @pytest.fixture(autouse=True)
    def _quiet(self):
        # A model that was trained briefly says that its structures are far from valid.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*structures.*")
            yield

    def test_decoded_structures_stand_above_their_latent_coordinate(self, trained):
        ax = plots.latent_walk(trained, dim=1, n_frames=4, restore=False).axes[0]
        z = encode_posed(trained, trained.data.frames)
        points = np.tile(np.median(z, axis=0), (4, 1))
        points[:, 1] = np.linspace(*np.percentile(z[:, 1], [2, 98]), 4)
        frames = mdvae.decode(trained, points, restore=False).xyz[..., :2]
        assert len(ax.collections) == 4
        for collection, frame, x in zip(ax.collections, frames, ax.get_xticks(), strict=True):
            beads = bead_centers(collection)
            middle = (beads[:, 0].min() + beads[:, 0].max()) / 2
            assert middle == pytest.approx(x, abs=1e-6)
            # Turned by a right angle or not at all, and moved.
            sizes = [np.sort(np.linalg.norm(x - x.mean(axis=0), axis=1)) for x in (beads, frame)]
            np.testing.assert_allclose(*sizes, rtol=1e-4)
        assert [label.get_text() for label in ax.get_xticklabels()] == [
            f"{value:.2f}".replace("-", "−") for value in points[:, 1]
        ]
        assert ax.get_xlabel() == "Latent coordinate $z_{2}$ (of 3)"

    def test_structures_do_not_overlap(self, trained):
        ax = plots.latent_walk(trained, restore=False).axes[0]
        beads = [bead_centers(collection)[:, 0] for collection in ax.collections]
        assert all(left.max() < right.min() for left, right in itertools.pairwise(beads))

    def test_the_bar_is_as_long_as_it_says(self, trained):
        ax = plots.latent_walk(trained, restore=False).axes[0]
        length = np.ptp(ax.get_lines()[0].get_xdata())
        assert ax.texts[0].get_text().split() == [f"{length:g}", "reduced", "units"]
        assert f"{length:.0e}"[0] in "125"

    @pytest.mark.parametrize("n_frames", [1, 5])
    def test_on_the_page(self, trained, n_frames):
        figure = plots.latent_walk(trained, n_frames=n_frames)
        figure.draw_without_rendering()
        box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        assert min(box.x0, box.y0) >= 0
        assert box.x1 <= width
        assert box.y1 <= height

    def test_composes(self, trained):
        host = Figure()
        assert plots.latent_walk(trained, restore=False, ax=host.subplots(2, 1)[1]) is host

    def test_refuses(self, trained):
        with pytest.raises(ValueError, match="0 to 2, got 3"):
            plots.latent_walk(trained, 3)
        with pytest.raises(ValueError, match="at least 1"):
            plots.latent_walk(trained, n_frames=0)
        with pytest.raises(ValueError, match="not been trained"):
            plots.latent_walk(dataclasses.replace(trained, data=None))
