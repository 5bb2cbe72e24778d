"""What is drawn is what was given, with units, on the page, and without touching anything global."""

import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.stats import wasserstein_distance

from mdvae import plots
from mdvae.history import History
from mdvae.plots.projection import principal_view
from mdvae.plots.style import OKABE_ITO, quantity, robust_limits


def chain(n_frames, n_atoms, dim, scale=1.0, seed=0):
    steps = np.random.default_rng(seed).normal(size=(n_frames, n_atoms, dim)) * scale
    positions = np.cumsum(steps, axis=1)
    return positions - positions.mean(axis=1, keepdims=True)


def chain_bonds(n_atoms):
    return np.stack([np.arange(n_atoms - 1), np.arange(1, n_atoms)], axis=1)


def make_history(n=40, validation=True, first=50.0):
    epochs = np.arange(n)
    kl = 2.0 - 2.0 * np.exp(-epochs / 5)
    loss = -30.0 + first * np.exp(-epochs / 4)
    terms = {"loss": loss, "kl": kl, "reconstruction": loss - kl}
    if validation:
        terms |= {f"validation_{name}": values + 0.5 for name, values in list(terms.items())}
    return history_of(terms, best_epoch=n - 1)


def history_of(terms, best_epoch=0):
    return History(terms, best_epoch, stopped="all epochs done", n_training=90, n_validation=10, seconds=1.0)


def lines(ax):
    return {line.get_label(): line for line in ax.get_lines()}


def segments(collection):
    return np.array(collection.get_segments())


FIGURES = {
    "loss": lambda: plots.loss_curves(make_history()),
    "loss, huge first epochs": lambda: plots.loss_curves(make_history(first=1e7)),
    "loss, one epoch, no validation": lambda: plots.loss_curves(make_history(1, validation=False)),
    "latent 1-D": lambda: plots.latent_trajectory(chain(1, 50, 1)[0], np.arange(50.0)),
    "latent 2-D": lambda: plots.latent_trajectory(chain(1, 50, 2)[0], np.arange(50.0) * 1e6, "ns"),
    "latent 8-D": lambda: plots.latent_trajectory(chain(1, 50, 8)[0] * 1e3),
    "latent, one frame": lambda: plots.latent_trajectory(np.zeros((1, 2))),
    "latent, 8 trajectories": lambda: plots.latent_trajectory(chain(1, 80, 2)[0], trajectory=np.arange(80) // 10),
    "latent, 18 trajectories": lambda: plots.latent_trajectory(chain(1, 90, 2)[0], trajectory=np.arange(90) // 5),
    "latent 1-D, 2 trajectories": lambda: plots.latent_trajectory(chain(1, 8, 1)[0], trajectory=np.arange(8) // 4),
    "conformations 2-D": lambda: plots.conformations(
        chain(50, 12, 2), chain(9, 12, 2, seed=1), chain_bonds(12), "reduced"
    ),
    "conformations 3-D": lambda: plots.conformations(chain(50, 30, 3), chain(9, 30, 3), chain_bonds(30)),
    "conformations, straight": lambda: plots.conformations(
        chain(9, 5, 3) * [1, 0, 0], chain(9, 5, 3) * [1, 0, 0], chain_bonds(5)
    ),
    "conformations, tall": lambda: plots.conformations(
        chain(9, 5, 2) * [0.1, 1], chain(9, 5, 2) * [0.1, 1], chain_bonds(5)
    ),
    "marginals": lambda: plots.distance_marginals(chain(90, 12, 2), chain(50, 12, 2, seed=1), unit="reduced"),
    "marginals of 7 pairs": lambda: plots.distance_marginals(
        chain(90, 12, 3), chain(50, 12, 3), [(0, i) for i in range(1, 8)]
    ),
    "compact 2-D": lambda: plots.compact_structures(
        chain(1, 12, 2)[0], chain(1, 12, 2, 0.5)[0], chain_bonds(12), (1.0, 0.5), "reduced"
    ),
    "compact 3-D": lambda: plots.compact_structures(
        chain(1, 214, 3)[0], chain(1, 214, 3, 0.5)[0], chain_bonds(214), (1.0, 0.5)
    ),
    "compact, five atoms": lambda: plots.compact_structures(
        chain(1, 5, 3)[0], chain(1, 5, 3)[0], chain_bonds(5), np.array([1.0, 0.5])
    ),
    "search": lambda: plots.search_path(np.linspace(2, 1, 60).reshape(3, 20), 1.1, answer=1, unit="reduced"),
    "search, some invalid": lambda: plots.search_path(
        np.linspace(2, 1, 1280).reshape(64, 20), 1.1, answer=1, valid=np.arange(64) < 44, unit="reduced"
    ),
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


@pytest.mark.parametrize("name", FIGURES)
def test_neither_settings_nor_pyplot_are_touched(name, tmp_path):
    before = dict(matplotlib.rcParams)
    plots.save_figure(FIGURES[name](), tmp_path / "figure.pdf")
    assert dict(matplotlib.rcParams) == before


def test_importing_is_cheap_and_pyplot_is_never_imported():
    code = (
        "import sys; from mdvae import plots; assert 'matplotlib' not in sys.modules;"
        "import numpy as np; plots.search_path(np.ones((2, 3)));"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


class TestLossCurves:
    def test_draws_the_terms(self):
        history = make_history()
        figure = plots.loss_curves(history)
        loss_ax, kl_ax = figure.axes
        for ax, term in ((loss_ax, "loss"), (kl_ax, "kl")):
            drawn = lines(ax)
            np.testing.assert_array_equal(drawn["training"].get_ydata(), history.terms[term])
            np.testing.assert_array_equal(drawn["validation"].get_ydata(), history.terms[f"validation_{term}"])
            np.testing.assert_array_equal(drawn["training"].get_xdata(), np.arange(1, 41))
            assert drawn["best epoch (40)"].get_xdata()[0] == 40
            assert "nats per frame" in ax.get_ylabel()
        assert kl_ax.get_xlabel() == "Epoch"

    def test_huge_first_epochs_are_cut_and_counted(self):
        history = make_history(100, first=1e7)
        ax = plots.loss_curves(history).axes[0]
        low, high = ax.get_ylim()
        assert low < -30
        n_above = np.sum(history.terms["validation_loss"] > high)
        assert 0 < n_above <= 20
        assert [text.get_text() for text in ax.texts] == [f"{n_above} epochs above"]

    def test_composes_with_kl_on_the_right(self):
        host = Figure()
        ax = host.subplots(1, 2)[1]
        history = make_history()
        assert plots.loss_curves(history, ax=ax) is host
        kl_ax = host.axes[-1]
        np.testing.assert_array_equal(lines(kl_ax)["KL training"].get_ydata(), history.terms["kl"])
        assert kl_ax.yaxis.get_label_position() == "right"

    def test_without_validation(self):
        ax = plots.loss_curves(make_history(validation=False)).axes[0]
        assert "training" in lines(ax)
        assert "validation" not in lines(ax)

    def test_missing_term(self):
        history = history_of({"loss": np.ones(3)})
        with pytest.raises(ValueError, match="no 'kl'; it has loss"):
            plots.loss_curves(history)


class TestLatentTrajectory:
    def test_draws_every_frame_with_its_time(self, rng):
        z, time = rng.normal(size=(100, 2)), np.linspace(0, 5, 100)
        figure = plots.latent_trajectory(z, time, "ns")
        points = figure.axes[0].collections[0]
        drawn = np.column_stack([points.get_offsets(), points.get_array()])
        given = np.column_stack([z, time])
        np.testing.assert_array_equal(drawn[np.argsort(drawn[:, 2])], given)
        assert points.get_rasterized()
        assert figure.axes[0].child_axes[0].get_ylabel() == "Time (ns)"

    def test_frames_are_counted_where_there_is_no_time(self, rng):
        figure = plots.latent_trajectory(rng.normal(size=(10, 2)))
        assert figure.axes[0].child_axes[0].get_ylabel() == "Frame"
        np.testing.assert_array_equal(np.sort(figure.axes[0].collections[0].get_array()), np.arange(10))

    def test_chosen_dimensions_of_many_are_named(self, rng):
        z = rng.normal(size=(20, 5))
        ax = plots.latent_trajectory(z, dims=(3, 1)).axes[0]
        drawn = ax.collections[0].get_offsets()
        order = ax.collections[0].get_array().astype(int)
        np.testing.assert_array_equal(drawn, z[order][:, [3, 1]])
        assert ax.get_xlabel() == "Latent coordinate $z_{4}$ (of 5)"
        assert ax.get_ylabel() == "Latent coordinate $z_{2}$ (of 5)"
        with pytest.raises(ValueError, match="0 to 4"):
            plots.latent_trajectory(z, dims=(0, 5))

    def test_one_coordinate_over_time(self, rng):
        z, time = rng.normal(size=(30, 1)), np.arange(30.0)
        ax = plots.latent_trajectory(z, time).axes[0]
        drawn = ax.collections[0].get_offsets()
        np.testing.assert_array_equal(drawn[np.argsort(drawn[:, 0])], np.column_stack([time, z[:, 0]]))
        assert ax.get_xlabel() == "Time (ps)"

    def test_many_frames_are_thinned_evenly(self, rng):
        z = rng.normal(size=(250_000, 2)).astype(np.float32)
        frames = np.sort(plots.latent_trajectory(z).axes[0].collections[0].get_array())
        np.testing.assert_array_equal(frames, np.arange(0, 250_000, 3))

    def test_up_to_eight_trajectories_have_colors_of_their_own(self, rng):
        from matplotlib.colors import to_hex

        z, runs = rng.normal(size=(80, 2)), np.arange(80) // 10
        ax = plots.latent_trajectory(z, trajectory=runs).axes[0]
        points = ax.collections[0]
        drawn = {
            tuple(at): to_hex(color).upper()
            for at, color in zip(points.get_offsets(), points.get_facecolors(), strict=True)
        }
        assert drawn == {tuple(at): OKABE_ITO[run] for at, run in zip(z, runs, strict=True)}
        assert len(set(OKABE_ITO)) == 8
        legend = ax.get_legend()
        named = {text.get_text(): dot for text, dot in zip(legend.get_texts(), legend.legend_handles, strict=True)}
        assert {name: dot.get_color() for name, dot in named.items()} == {
            f"run {i + 1}": color for i, color in enumerate(OKABE_ITO)
        }
        assert not ax.child_axes

    def test_more_trajectories_are_colored_on_a_scale(self, rng):
        z, runs = rng.normal(size=(90, 2)), np.arange(90) // 5
        ax = plots.latent_trajectory(z, np.arange(90.0), trajectory=runs).axes[0]
        points = ax.collections[0]
        drawn = dict(zip(map(tuple, points.get_offsets()), points.get_array(), strict=True))
        assert drawn == {tuple(at): run + 1 for at, run in zip(z, runs, strict=True)}
        assert ax.child_axes[0].get_ylabel() == "Trajectory"
        assert ax.get_legend() is None

    def test_a_single_trajectory_is_colored_by_time(self, rng):
        time = np.arange(10.0)
        ax = plots.latent_trajectory(rng.normal(size=(10, 2)), time, trajectory=np.full(10, 3)).axes[0]
        assert ax.child_axes[0].get_ylabel() == "Time (ps)"

    def test_trajectories_of_one_coordinate(self, rng):
        z = rng.normal(size=(10, 1))
        ax = plots.latent_trajectory(z, trajectory=np.arange(10) // 5).axes[0]
        assert [text.get_text() for text in ax.get_legend().get_texts()] == ["run 1", "run 2"]
        drawn = ax.collections[0].get_offsets()
        np.testing.assert_array_equal(drawn[np.argsort(drawn[:, 0])], np.column_stack([np.arange(10), z[:, 0]]))

    @pytest.mark.parametrize("runs", [None, np.arange(40_000) // 10_000, np.arange(40_000) // 1000])
    def test_density_of_many_frames_is_seen(self, rng, runs):
        few, many = (
            plots.latent_trajectory(z, trajectory=None if runs is None else runs[:: 40_000 // len(z)])
            for z in (rng.normal(size=(100, 2)), rng.normal(size=(40_000, 2)))
        )
        few, many = few.axes[0].collections[0], many.axes[0].collections[0]
        assert many.get_sizes()[0] < few.get_sizes()[0] / 2
        assert many.get_alpha() <= 0.15 < 0.5 < few.get_alpha()

    def test_composes_also_in_a_subfigure(self, rng):
        host = Figure()
        ax = host.subfigures(1, 2)[0].subplots()
        assert plots.latent_trajectory(rng.normal(size=(10, 2)), ax=ax) is host

    def test_no_frames(self):
        with pytest.raises(ValueError, match="no frames"):
            plots.latent_trajectory(np.zeros((0, 2)))


class TestConformations:
    def test_draws_the_frames(self):
        training, generated = chain(7, 5, 2), chain(4, 5, 2, seed=1)
        bonds = chain_bonds(5)
        figure = plots.conformations(training, generated, bonds, unit="reduced")
        for ax, frames in zip(figure.axes, (training, generated), strict=True):
            np.testing.assert_allclose(segments(ax.collections[0]), frames[:, bonds].reshape(-1, 2, 2))
            deviation = np.sum((frames - frames.mean(axis=0)) ** 2, axis=(1, 2))
            np.testing.assert_allclose(segments(ax.collections[1]), frames[deviation.argmin()][bonds])
            assert ax.get_xlabel() == "$x$ (reduced units)"
            assert ax.get_aspect() == 1
        assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim()
        assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()

    def test_takes_frames_at_even_spacing(self):
        figure = plots.conformations(chain(101, 5, 2), chain(9, 5, 2), chain_bonds(5), n_show=11)
        expected = chain(101, 5, 2)[::10][:, chain_bonds(5)].reshape(-1, 2, 2)
        np.testing.assert_allclose(segments(figure.axes[0].collections[0]), expected)
        assert figure.axes[0].get_title() == "Training (11 frames shown)"

    def test_both_panels_share_the_projection_of_the_training_mean(self):
        training = chain(20, 6, 3) + 5.0
        figure = plots.conformations(training, training, chain_bonds(6))
        mean = training.mean(axis=0)
        page = (training - mean.mean(axis=0)) @ principal_view(mean)[:2].T
        for ax in figure.axes:
            np.testing.assert_allclose(segments(ax.collections[0]), page[:, chain_bonds(6)].reshape(-1, 2, 2))
        assert figure.axes[0].get_xlabel() == "Principal axis 1 (nm)"

    def test_atoms_without_a_bond_are_seen(self):
        training = chain(3, 4, 2)
        figure = plots.conformations(training, training, np.array([[0, 1]]))
        dots = figure.axes[0].collections[1].get_offsets()
        np.testing.assert_allclose(dots, training[:, 2:].reshape(-1, 2))

    def test_lines_of_many_atoms_are_thin(self):
        widths = []
        for n_atoms in (12, 300, 3341):
            frames = chain(2, n_atoms, 3)
            overlay, highlight = plots.conformations(frames, frames, chain_bonds(n_atoms)).axes[0].collections[:2]
            widths.append((overlay.get_linewidths()[0], highlight.get_linewidths()[0]))
        assert widths[0] == widths[1]
        assert widths[2] == (0.25, 0.25)
        assert min(widths[0]) > 0.4

    def test_nothing_to_show(self):
        with pytest.raises(ValueError, match="at least one frame"):
            plots.conformations(chain(3, 4, 2), chain(3, 4, 2), chain_bonds(4), n_show=0)


@pytest.mark.parametrize("seed", range(5))
def test_principal_view_is_a_proper_rotation_onto_falling_variances(seed):
    structure = chain(1, 9, 3, seed=seed)[0]
    view = principal_view(structure)
    np.testing.assert_allclose(view @ view.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(view) == pytest.approx(1)
    variances = (structure @ view.T).var(axis=0)
    np.testing.assert_allclose(variances, np.linalg.eigvalsh(np.cov(structure.T, bias=True))[::-1])


def test_principal_view_of_a_single_atom_is_a_rotation():
    view = principal_view(np.zeros((1, 3)))
    np.testing.assert_allclose(view @ view.T, np.eye(3), atol=1e-12)


class TestDistanceMarginals:
    def test_default_pairs_and_density(self):
        training, generated = chain(400, 12, 2), chain(300, 12, 2, seed=1)
        figure = plots.distance_marginals(training, generated)
        assert [ax.get_title() for ax in figure.axes] == [f"atoms 0–{last}" for last in (1, 3, 6, 11)]
        assert figure.axes[0].get_ylabel() == "Density (nm$^{-1}$)"
        for ax, last in zip(figure.axes, (1, 3, 6, 11), strict=True):
            assert ax.get_xlabel() == "Distance (nm)"
            for patch, frames in zip(ax.patches, (training, generated), strict=True):
                drawn = patch.get_data()
                distances = np.linalg.norm(frames[:, 0] - frames[:, last], axis=1)
                counts = np.histogram(distances, drawn.edges)[0]
                np.testing.assert_allclose(drawn.values * np.diff(drawn.edges), counts / len(frames))

    def test_wasserstein_distance_is_written(self):
        training, generated = chain(400, 3, 3), chain(300, 3, 3, 1.1, seed=1)
        figure = plots.distance_marginals(training, generated, [(0, 2)])
        one, other = (np.linalg.norm(x[:, 0] - x[:, 2], axis=1) for x in (training, generated))
        assert figure.axes[0].texts[0].get_text() == f"$W_1$ = {wasserstein_distance(one, other):.2g} nm"

    def test_names_and_unit(self):
        figure = plots.distance_marginals(chain(9, 3, 3), chain(9, 3, 3), np.array([[0, 2]]), "angstrom", "ABC")
        assert figure.axes[0].get_title() == "A–C"
        assert figure.axes[0].get_xlabel() == "Distance (Å)"

    def test_one_broken_frame_does_not_squeeze_the_rest(self):
        generated = chain(5000, 4, 3, seed=1)
        generated[0, 3] = 1e4
        ax = plots.distance_marginals(chain(500, 4, 3), generated).axes[-1]
        assert ax.get_xlim()[1] < 30

    def test_rigid_distance(self):
        frames = np.zeros((5, 2, 3))
        frames[:, 1] = 0.15
        ax = plots.distance_marginals(frames, frames).axes[0]
        assert ax.patches[0].get_data().values.max() > 0

    @pytest.mark.parametrize(
        ("pairs", "n_atoms", "message"),
        [([(0, 5)], 5, "atoms 0 to 4"), ([], 5, "at least one pair"), (None, 1, "at least 2 atoms")],
    )
    def test_refuses(self, pairs, n_atoms, message):
        with pytest.raises(ValueError, match=message):
            plots.distance_marginals(chain(5, n_atoms, 3), chain(5, n_atoms, 3), pairs)


def bead_centers(collection):
    """Give the middle of every circle (the polygons with more than four corners), in order of drawing."""
    corners = [path.vertices[:-1] for path in collection.get_paths()]
    return np.array([points[:-1].mean(axis=0) for points in corners if len(points) > 10])


class TestCompactStructures:
    def test_draws_the_beads_where_they_are(self):
        one, other = chain(1, 12, 2)[0], chain(1, 12, 2, 0.5, seed=1)[0]
        figure = plots.compact_structures(one, other, chain_bonds(12), (1.234, 0.5), "reduced")
        assert len(figure.axes) == 2
        for ax, structure in zip(figure.axes, (one, other), strict=True):
            np.testing.assert_allclose(bead_centers(ax.collections[0]), structure, atol=1e-12)
            assert ax.get_aspect() == 1
        assert figure.axes[0].get_title() == "Best training frame\nradius of gyration 1.234 reduced units"
        assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim()
        assert figure.axes[1].child_axes[0].get_ylabel() == "Atom index"

    def test_near_beads_are_drawn_after_far_ones(self):
        structure = chain(1, 30, 3)[0]
        figure = plots.compact_structures(structure, structure, chain_bonds(30), (1.0, 1.0))
        page = structure @ principal_view(structure).T
        drawn = bead_centers(figure.axes[0].collections[0])
        np.testing.assert_allclose(drawn, page[np.argsort(page[:, 2])][:, :2], atol=1e-12)

    def test_every_bond_is_two_half_sticks(self):
        structure = np.stack([np.arange(5.0), np.zeros(5)], axis=1)
        figure = plots.compact_structures(structure, structure, chain_bonds(5), (1.0, 1.0))
        assert len(figure.axes[0].collections[0].get_paths()) == 5 + 2 * 4

    def test_number_without_unit(self):
        structure = chain(1, 5, 2)[0]
        figure = plots.compact_structures(
            structure, structure, chain_bonds(5), (3.0, 4.0), observable="contacts", observable_unit=""
        )
        assert figure.axes[1].get_title() == "Optimized structure\ncontacts 4"


class TestSearchPath:
    def test_draws_all_starts(self, rng):
        values = rng.random((5, 20))
        ax = plots.search_path(values, 0.3, answer=2, observable="RMSD", unit="angstrom").axes[0]
        drawn = ax.get_lines()
        np.testing.assert_array_equal([line.get_ydata() for line in drawn[:5]], values)
        np.testing.assert_array_equal(lines(ax)["answer"].get_ydata(), values[2])
        assert lines(ax)["best training frame"].get_ydata()[0] == 0.3
        assert ax.get_xlabel() == "Optimization step"
        assert ax.get_ylabel() == "RMSD (Å)"

    def test_valid_and_invalid_starts_are_drawn_apart(self, rng):
        values, valid = rng.random((64, 20)), rng.permutation(64) < 44
        ax = plots.search_path(values, 0.3, answer=int(np.argmax(valid)), valid=valid).axes[0]
        drawn = ax.get_lines()
        for group, expected in ((drawn[:44], values[valid]), (drawn[44:64], values[~valid])):
            np.testing.assert_array_equal([line.get_ydata() for line in group], expected)
            assert len({(line.get_color(), line.get_linestyle()) for line in group}) == 1
        assert drawn[0].get_color() != drawn[44].get_color()
        assert (drawn[0].get_linestyle(), drawn[44].get_linestyle()) == ("-", "--")
        names = [text.get_text() for text in ax.get_legend().get_texts()]
        assert names == ["44 valid starts", "20 invalid starts", "answer", "best valid training frame"]

    def test_the_legend_is_above_the_data(self, rng):
        figure = FIGURES["search, some invalid"]()
        figure.draw_without_rendering()
        ax = figure.axes[0]
        assert ax.get_legend().get_window_extent().y0 >= ax.get_window_extent().y1

    @pytest.mark.parametrize(("valid", "name"), [(True, "5 valid starts"), (False, "5 invalid starts")])
    def test_all_starts_alike(self, rng, valid, name):
        ax = plots.search_path(rng.random((5, 20)), valid=np.full(5, valid)).axes[0]
        assert [text.get_text() for text in ax.get_legend().get_texts()] == [name]

    def test_the_training_frame_is_within_the_scale(self):
        low, high = plots.search_path(np.full((2, 5), 1.0), 4.0).axes[0].get_ylim()
        assert low < 1.0
        assert high > 4.0

    def test_early_ends(self):
        values = np.array([[3.0, 2.0, np.nan], [3.0, 2.5, 1.0]])
        assert plots.search_path(values).axes[0].get_ylim()[0] < 1.0

    def test_composes(self):
        host = Figure()
        ax = host.subplots()
        assert plots.search_path(np.ones((1, 3)), ax=ax, answer=0) is host

    def test_refuses_an_answer_that_is_no_start(self):
        with pytest.raises(ValueError, match="starts 0 to 1, got 2"):
            plots.search_path(np.ones((2, 3)), answer=2)


class TestSaveFigure:
    @pytest.mark.parametrize(("name", "magic"), [("a.png", b"\x89PNG"), ("a.pdf", b"%PDF"), ("a.SVG", b"<?xml")])
    def test_writes_one_file_and_nothing_else(self, tmp_path, name, magic):
        target = plots.save_figure(Figure(), tmp_path / name)
        assert list(tmp_path.iterdir()) == [target]
        assert target.read_bytes().startswith(magic)

    def test_png_has_300_dots_per_inch(self, tmp_path):
        from matplotlib.image import imread

        target = plots.save_figure(Figure(figsize=(2, 1)), tmp_path / "a.png")
        assert imread(target).shape[:2] == (300, 600)

    def test_a_failure_leaves_the_old_file(self, tmp_path, monkeypatch):
        target = tmp_path / "a.png"
        target.write_text("old")

        def fail(self, path, **options):
            path.write_text("half")
            raise OSError(28, "disk full")

        monkeypatch.setattr(Figure, "savefig", fail)
        with pytest.raises(OSError, match=r"cannot write .*a\.png: disk full"):
            plots.save_figure(Figure(), target)
        assert list(tmp_path.iterdir()) == [target]
        assert target.read_text() == "old"

    @pytest.mark.parametrize(
        ("name", "error", "message"),
        [
            ("missing/a.png", FileNotFoundError, "there is no folder .*missing"),
            ("a.xyz", ValueError, r"must end in \.pdf, \.png, \.svg"),
            ("", IsADirectoryError, "it is a folder"),
        ],
    )
    def test_refuses_in_one_line(self, tmp_path, name, error, message):
        with pytest.raises(error, match=message) as caught:
            plots.save_figure(Figure(), tmp_path / name)
        assert "\n" not in str(caught.value)
        assert not list(tmp_path.iterdir())


def test_quantities_have_units():
    assert quantity("Distance", "nm") == "Distance (nm)"
    assert quantity("Distance", "reduced") == "Distance (reduced units)"
    assert quantity("Density", "angstrom", power=-1) == "Density (Å$^{-1}$)"
    assert quantity("Contacts") == "Contacts"


@pytest.mark.parametrize(
    "values",
    [np.zeros(0), np.full(3, np.nan), np.zeros(4), np.full(3, -2.0), np.array([1.0, np.inf, 2.0])],
    ids=["none", "nan", "zero", "equal", "infinite"],
)
def test_robust_limits_are_finite_and_ordered(values):
    low, high = robust_limits(values)
    assert np.isfinite([low, high]).all()
    assert low < high


def test_robust_limits_show_moderate_extremes_and_cut_wild_ones():
    bulk = np.linspace(-1, 1, 100)
    assert robust_limits(np.append(bulk, 4.0))[1] > 4.0
    assert robust_limits(np.append(bulk, 1e6))[1] < 2.0
