import dataclasses
import json
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import mdtraj as md
import numpy as np
import pytest

import mdvae
from mdvae.latent.generation import decode_coordinates
from mdvae.local_geometry import fit_local_geometry
from mdvae.model import remember
from mdvae.networks import AbstractDecoder
from mdvae.report.explorer import explorable, explorer
from mdvae.report.page import page
from mdvae.vae import Categorical

pytest.importorskip("plotly", reason="plotly is not installed")


def with_data(model, frames):
    """The model as if it had been trained: its weights are random ones, its data are there."""
    geometry = fit_local_geometry(frames.coordinates, frames.system.links, frames.system.masses)
    return dataclasses.replace(model, data=remember(frames, geometry))


def built(frames, hidden=(16, 16, 16), **spec):
    return with_data(mdvae.build(frames, hidden=hidden, seed=1, **spec), frames)


def encoded(model):
    return np.asarray(jax.vmap(model.coordinate)(model.data.frames))


def report(model, **options):
    return page("report", [("Explorer", explorer(model, encoded(model), **options))])


def undrawn(model):
    """The explorer alone, where nothing draws: it is there in no time."""
    return f"<!DOCTYPE html><script>window.Plotly = {{react: () => {{}}}}</script>{explorer(model, encoded(model))}"


def content(fragment):
    return json.loads(re.search(r'id="mdvae-explorer-data">(.*?)</script>', fragment, re.DOTALL)[1])


def decoded(shown, z):
    return np.array(shown("all => all.map(z => Array.from(window.mdvae.decode(z)))", z.tolist()))


def current(shown):
    plain = "(({z, coordinates}) => ({z, coordinates: Array.from(coordinates)}))(window.mdvae.current())"
    return {key: np.array(value) for key, value in shown(plain).items()}


def clean(shown):
    return (shown.errors, shown.requests) == ([], [])


@pytest.fixture(scope="module")
def in_space(hexane):
    coordinates, links = hexane
    topology = md.Topology()
    for residues in ([("ALA", 3), ("GLN", 12345)], [("HOHX", 7)]):
        chain = topology.add_chain("A")  # both, as in files that tell chains apart by TER alone
        for name, number in residues:
            residue = topology.add_residue(name, chain, resSeq=number)
            for _ in range(2):
                name, symbol = [("CA", "C"), ("HD11", "H"), ("N", "N"), ("CL", "Cl"), ("OXT", "O"), ("S", "S")][
                    topology.n_atoms
                ]
                topology.add_atom(name, md.element.get_by_symbol(symbol), residue)
    atoms = list(topology.atoms)
    for i, j in links:
        topology.add_bond(atoms[i], atoms[j])
    return mdvae.read(md.Trajectory(coordinates, topology))


@pytest.fixture(scope="module")
def spatial(in_space):
    return built(in_space, latent_dim=2)


class TestDecoding:
    """What the page decodes is what the model decodes."""

    @pytest.mark.parametrize(
        "spec",
        [
            {"activation": "silu"},
            {"activation": "tanh", "residual": False},
            {"activation": "softplus", "latent_dim": 1},
            {"activation": "gelu", "latent_dim": 3},
            {"hidden": (16, 24, 24, 16), "latent_dim": 3},
            {"hidden": (3, 3), "latent_dim": 3},
            {"hidden": ()},
            {"likelihood": "low_rank_gaussian", "rank": 4},
            {"likelihood": "squared_error", "alignment": "none"},
            {"representation": "internal"},
            {"representation": "internal", "alignment": "principal", "latent_dim": 3},
        ],
        ids=lambda spec: "-".join(map(str, spec.values())),
    )
    def test_in_space(self, opened, in_space, spec, rng):
        named = {"latent_dim": 2, "alignment": "superposition"} | spec
        frames = mdvae.read(in_space.coordinates, alignment=named.pop("alignment"))
        self.agrees(opened, built(frames, **named), rng)

    @pytest.mark.parametrize("alignment", ["superposition", "principal"])
    @pytest.mark.parametrize("representation", ["cartesian", "internal"])
    def test_in_the_plane(self, opened, chain, representation, alignment, rng):
        frames = mdvae.read(chain, length_unit="reduced", alignment=alignment)
        self.agrees(opened, built(frames, representation=representation), rng)

    @pytest.mark.parametrize("n_atoms", [2, 3])
    @pytest.mark.parametrize("dim", [2, 3])
    def test_few_internal_coordinates(self, opened, rng, n_atoms, dim):
        frames = 0.15 * np.arange(n_atoms * dim).reshape(n_atoms, dim) ** 2 + 0.02 * rng.normal(size=(50, n_atoms, dim))
        # Two atoms in space are on a line, about which nothing says how they are turned.
        if (n_atoms, dim) == (2, 3):
            with pytest.raises(ValueError, match="line"):
                mdvae.read(frames.astype(np.float32))
            return
        self.agrees(opened, built(mdvae.read(frames.astype(np.float32)), latent_dim=1, representation="internal"), rng)

    def test_trained(self, opened, trained, rng):
        self.agrees(opened, trained, rng, report)

    def test_trained_with_internal_coordinates(self, opened, in_space, rng):
        model = mdvae.build(in_space, latent_dim=2, hidden=(16, 16), representation="internal", seed=0)
        self.agrees(opened, mdvae.train(model, in_space, epochs=2, batch_size=64, seed=0, progress=False), rng, report)

    def agrees(self, opened, model, rng, written=undrawn):
        z = 2 * rng.normal(size=(50, model.latent_dim)).astype(np.float32)
        expected = decode_coordinates(model, z).reshape(len(z), -1)
        assert expected.std(axis=0).max() > 1e-3  # else any structure would do
        shown = opened(written(model))
        np.testing.assert_allclose(decoded(shown, z), expected, rtol=0, atol=1e-4)
        assert clean(shown)


class TestShowing:
    def test_structure_and_bonds_are_those_of_the_point(self, opened, spatial):
        shown = opened(report(spatial))
        z = [0.7, -1.2]
        shown("z => window.mdvae.show(z)", z)
        frame = decode_coordinates(spatial, [z])[0]
        np.testing.assert_allclose([shown.drawn(1, axis) for axis in "xyz"], frame.T, rtol=0, atol=1e-4)
        assert shown.drawn(1, "text")[:2] == ["ALA3 CA", "ALA3 HD11"]
        geometry = spatial.data.geometry
        bonded = geometry.separation == 1
        first, second = geometry.pairs[bonded].T
        lengths, stats = np.linalg.norm(frame[first] - frame[second], axis=1), geometry.lengths
        assert stats.held[bonded].all()
        off = np.abs(lengths - stats.mean[bonded]) / stats.spread[bonded]
        np.testing.assert_allclose(shown.drawn(0, "line.color")[::3], np.minimum(off, 5), atol=0.02)
        text = shown("document.getElementById('mdvae-explorer-verdict').textContent")
        assert text.startswith(f"{(off > 5).sum()} of {len(off)} bonds")
        assert (off > 5).any()
        assert clean(shown)

    def test_soft_bonds_count_outside_of_the_range_of_the_data(self, opened, trained):
        shown = opened(report(trained))
        z = [4.0, -4.0, 4.0]
        shown("z => window.mdvae.show(z)", z)
        frame, geometry = decode_coordinates(trained, [z])[0], trained.data.geometry
        bonded = geometry.separation == 1
        lengths = np.linalg.norm(np.subtract(*frame[geometry.pairs[bonded].T]), axis=1)
        low, high = geometry.lengths.smallest[bonded], geometry.lengths.largest[bonded]
        assert not geometry.lengths.held[bonded].any()
        off = np.maximum(0, np.maximum(low - lengths, lengths - high)) / geometry.lengths.spread[bonded]
        np.testing.assert_allclose(shown.drawn(0, "line.color")[::3], np.minimum(off, 5), atol=1e-3)
        assert (off > 0).any()
        assert (off == 0).any()

    def test_nothing_but_bonds_of_many_atoms(self, opened, rng):
        line = np.zeros((40, 450, 2))
        line[:, :, 0] = np.arange(450)
        frames = mdvae.read((line + 0.1 * rng.normal(size=line.shape)).astype(np.float32), length_unit="reduced")
        shown = opened(report(built(frames)))
        assert shown("document.getElementById('mdvae-explorer-structure').data.length") == 1
        assert len(shown.drawn(0, "x")) == 3 * 449
        assert clean(shown)

    def test_says_that_nothing_is_restored(self, opened, spatial):
        assert "own output, not restored" in opened(report(spatial))("document.body.innerText")


class TestPointer:
    AT = """([fx, fy]) => {
      const plane = document.getElementById('mdvae-explorer-plane'), { xaxis, yaxis } = plane._fullLayout;
      const area = plane.getBoundingClientRect();
      const [x, y] = [fx * xaxis._length, fy * yaxis._length];
      return [area.left + xaxis._offset + x, area.top + yaxis._offset + y, xaxis.p2d(x), yaxis.p2d(y)];
    }"""

    def move(self, shown, where):
        """Move the pointer to a share of the plane; the latent point there, as plotly's own axes have it."""
        x, y, *z = shown(self.AT, where)
        shown.page.mouse.move(x, y)
        shown("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return (x, y), z

    def picture(self, shown):
        shown.page.wait_for_timeout(300)
        return shown.page.locator("#mdvae-explorer-structure").screenshot()

    def test_structure_follows_and_is_pinned(self, opened, spatial):
        shown = opened(report(spatial))
        seen = []
        for where in ([0.2, 0.3], [0.8, 0.6]):
            at, z = self.move(shown, where)
            now = current(shown)
            np.testing.assert_allclose(now["z"], z, atol=0.02)
            np.testing.assert_allclose(
                now["coordinates"], decode_coordinates(spatial, [now["z"]]).reshape(-1), rtol=0, atol=1e-4
            )
            np.testing.assert_allclose(shown.drawn(1, "x"), now["coordinates"][::3])
            seen.append((shown.drawn(1, "x"), self.picture(shown)))
        assert seen[0][0] != seen[1][0]
        assert seen[0][1] != seen[1][1]
        # Without a change the picture stays the same: the comparison above could have failed.
        assert self.picture(shown) == seen[1][1]
        shown.page.mouse.click(*at)
        pinned = current(shown)["z"]
        self.move(shown, [0.5, 0.5])
        np.testing.assert_array_equal(current(shown)["z"], pinned)
        at, z = self.move(shown, [0.4, 0.5])
        shown.page.mouse.click(*at)
        np.testing.assert_allclose(current(shown)["z"], z, atol=0.02)
        assert clean(shown)

    def test_outside_of_the_axes_nothing_moves(self, opened, spatial):
        shown = opened(report(spatial))
        self.move(shown, [0.3, 0.3])
        before = current(shown)["z"]
        self.move(shown, [0.5, 1.05])
        np.testing.assert_array_equal(current(shown)["z"], before)

    def test_one_dimension_is_a_histogram(self, opened, chain):
        model = built(mdvae.read(chain, length_unit="reduced"), latent_dim=1)
        shown = opened(report(model))
        _, z = self.move(shown, [0.3, 0.3])
        np.testing.assert_allclose(current(shown)["z"], z[:1], atol=0.02)
        assert sum(shown("document.getElementById('mdvae-explorer-plane').data[0].y")) == len(model.data.frames)
        assert clean(shown)

    def test_other_dimensions_keep_their_values(self, opened, trained):
        shown = opened(report(trained))
        shown.page.select_option("#mdvae-explorer-up", "2")
        shown("window.mdvae.show([0.1, 0.2, 0.3])")
        _, z = self.move(shown, [0.7, 0.4])
        np.testing.assert_allclose(current(shown)["z"], [z[0], 0.2, z[1]], atol=0.02)
        slider = shown.page.locator("#mdvae-explorer-others input")
        assert slider.count() == 1
        slider.fill("-0.5")
        np.testing.assert_allclose(current(shown)["z"], [z[0], -0.5, z[1]], atol=0.02)
        # The dimension of the other axis: the two change places.
        shown.page.select_option("#mdvae-explorer-across", "2")
        assert shown.page.input_value("#mdvae-explorer-up") == "0"
        assert clean(shown)

    def test_plane_is_minus_the_logarithm_of_the_density(self, opened, spatial):
        shown = opened(report(spatial))
        grid = np.array(shown("document.getElementById('mdvae-explorer-plane').data[0].z"), float)
        density = np.where(np.isnan(grid), 0, np.exp(-grid))
        axes = [np.array(shown(f"document.getElementById('mdvae-explorer-plane').data[0].{axis}")) for axis in "yx"]
        z = encoded(spatial)
        assert np.nanmin(grid) == 0
        for k, (axis, along) in enumerate(zip(axes, (1, 0), strict=True)):
            marginal = density.sum(axis=along) / density.sum()
            column = z[:, 1 - k]
            assert (marginal * axis).sum() == pytest.approx(float(column.mean()), abs=0.1 * float(column.std()))
            assert np.sqrt((marginal * (axis - column.mean()) ** 2).sum()) == pytest.approx(
                float(column.std()), rel=0.2
            )


class TestControls:
    def test_walk_is_straight_and_can_be_stopped(self, opened, spatial):
        shown = opened(report(spatial))
        a, b = np.array([-1.0, 0.5]), np.array([2.0, 1.0])
        for z, button in ((a, "from"), (b, "to")):
            shown("z => window.mdvae.show(z)", z.tolist())
            shown.page.click(f"#mdvae-explorer-{button}")
        shown.page.fill("#mdvae-explorer-along", "0.25")
        np.testing.assert_allclose(current(shown)["z"], 0.75 * a + 0.25 * b, atol=1e-6)
        shown.page.click("#mdvae-explorer-walk")
        shown.page.wait_for_function("document.getElementById('mdvae-explorer-along').valueAsNumber > 0.3")
        shown.page.click("#mdvae-explorer-walk")
        share, z = float(shown.page.input_value("#mdvae-explorer-along")), current(shown)["z"]
        np.testing.assert_allclose(z, (1 - share) * a + share * b, atol=1e-6)
        shown.page.wait_for_timeout(200)
        np.testing.assert_array_equal(current(shown)["z"], z)
        shown.page.fill("#mdvae-explorer-along", "0.95")
        shown.page.click("#mdvae-explorer-walk")
        shown.page.wait_for_function("document.getElementById('mdvae-explorer-walk').textContent === 'Walk'")
        np.testing.assert_allclose(current(shown)["z"], b, atol=1e-6)
        np.testing.assert_allclose(shown.drawn(1, "y"), decode_coordinates(spatial, [b])[0, :, 1], rtol=0, atol=1e-4)
        assert clean(shown)

    def test_default_walk_is_between_crowds(self, spatial, rng):
        crowds = np.repeat([[-2.0, 1.0], [2.0, -1.0]], [600, 400], axis=0) + 0.3 * rng.normal(size=(1000, 2))
        z = np.concatenate([crowds, rng.uniform(-4, 4, size=(100, 2))])
        ends = content(explorer(spatial, z))["frames"]["ends"]
        np.testing.assert_allclose(ends, [[-2.0, 1.0], [2.0, -1.0]], atol=0.4)

    def test_jump_to_a_frame(self, opened, spatial, rng):
        z = rng.normal(size=(9000, 2)).astype(np.float32)
        trajectory = np.repeat([4, 7], [3000, 6000])
        shown = opened(page("report", [("Explorer", explorer(spatial, z, trajectory=trajectory))]))
        shown.page.fill("#mdvae-explorer-frame", "8999")
        shown.page.press("#mdvae-explorer-frame", "Enter")
        np.testing.assert_allclose(current(shown)["z"], z[8999], atol=1e-6)
        name = shown("document.getElementById('mdvae-explorer-frame-name').textContent")
        assert re.findall(r"\d+", name) == ["8999", "9000", "0", "5999", "7"]
        # A frame that is not shown: its nearest one is.
        shown.page.fill("#mdvae-explorer-frame", "4000")
        shown.page.press("#mdvae-explorer-frame", "Enter")
        number = int(shown.page.input_value("#mdvae-explorer-frame"))
        assert abs(number - 4000) <= 2
        np.testing.assert_allclose(current(shown)["z"], z[number], atol=1e-6)
        shown.page.fill("#mdvae-explorer-shown", "17")
        number = content(explorer(spatial, z))["frames"]["numbers"][17]
        np.testing.assert_allclose(current(shown)["z"], z[number], atol=1e-6)
        assert clean(shown)

    def save(self, shown, path):
        with shown.page.expect_download() as download:
            shown.page.click("#mdvae-explorer-save")
        download.value.save_as(path)
        return md.load(path)

    def test_pdb_is_the_structure(self, opened, spatial, tmp_path):
        shown = opened(report(spatial))
        shown("window.mdvae.show([0.3, -1.1])")
        saved = self.save(shown, tmp_path / "structure.pdb")
        np.testing.assert_allclose(saved.xyz, decode_coordinates(spatial, [[0.3, -1.1]]), rtol=0, atol=1.1e-4)
        found, expected = saved.topology, spatial.system.topology
        assert [atom.name for atom in found.atoms] == ["CA", "HD11", "N", "CL", "OXT", "S"]
        assert [atom.element.symbol for atom in found.atoms] == [atom.element.symbol for atom in expected.atoms]
        assert [(r.name, r.resSeq, r.chain.index) for r in found.residues] == [
            ("ALA", 3, 0),
            ("GLN", 2345, 0),
            ("HOH", 7, 1),
        ]
        bonds = {tuple(sorted((a.index, b.index))) for a, b in found.bonds}
        assert {(a.index, b.index) for a, b in expected.bonds} <= bonds
        assert clean(shown)

    def test_pdb_of_reduced_units_in_the_plane(self, opened, trained, tmp_path):
        shown = opened(report(trained))
        shown("window.mdvae.show([0.3, -1.1, 0.2])")
        saved = self.save(shown, tmp_path / "structure.pdb")
        np.testing.assert_allclose(
            saved.xyz[..., :2], decode_coordinates(trained, [[0.3, -1.1, 0.2]]), rtol=0, atol=1.1e-4
        )
        np.testing.assert_array_equal(saved.xyz[..., 2], 0)
        assert [atom.name for atom in saved.topology.atoms] == [f"B{i + 1}" for i in range(6)]
        assert saved.topology.n_residues == 6


class TestDoor:
    def test_page_of_default_weights_is_small(self, in_space):
        text = report(with_data(mdvae.build(in_space, latent_dim=2, seed=0), in_space))
        assert 1e6 < len(text.encode()) - len(page("report", [])) < 3e6
        assert len(text.encode()) < 8e6

    def test_frames_are_evenly_spaced_ones(self, spatial, rng):
        numbers = content(explorer(spatial, rng.normal(size=(10_000, 2))))["frames"]["numbers"]
        assert (len(numbers), numbers[0], numbers[-1]) == (4000, 0, 9999)
        assert set(np.diff(numbers)) == {2, 3}

    def test_one_frame_is_enough(self, opened, spatial):
        shown = opened(page("report", [("Explorer", explorer(spatial, [[0.5, 0.5]]))]))
        np.testing.assert_allclose(current(shown)["z"], [0.5, 0.5])
        assert clean(shown)

    def test_names_cannot_break_the_page(self, opened, hexane):
        topology = md.Topology()
        residue = topology.add_residue("<b>", topology.add_chain())
        for _ in range(6):
            topology.add_atom("</script>", md.element.carbon, residue)
        model = built(mdvae.read(md.Trajectory(hexane[0], topology)))
        shown = opened(report(model))
        assert shown.drawn(1, "text")[0] == "<b>0 </script>"
        assert clean(shown)

    @pytest.mark.parametrize("z", [np.zeros((5, 3)), np.zeros(2), np.zeros((0, 2)), np.full((5, 2), np.nan)])
    def test_points_that_cannot_be_shown(self, spatial, z):
        with pytest.raises(ValueError, match="latent points"):
            explorer(spatial, z)

    @pytest.mark.parametrize("trajectory", [np.zeros(4, int), np.zeros(5)])
    def test_trajectories_that_do_not_fit(self, spatial, trajectory):
        with pytest.raises(ValueError, match="trajectory of each of the 5 frames"):
            explorer(spatial, np.zeros((5, 2)), trajectory=trajectory)

    def test_untrained(self, in_space):
        model = mdvae.build(in_space, latent_dim=2, seed=0)
        with pytest.raises(ValueError, match="cannot be explored in a page: it is not trained"):
            explorer(model, np.zeros((5, 2)))

    def test_models_that_the_page_does_not_know(self, spatial):
        class Other(AbstractDecoder):
            def __call__(self, z):
                return jnp.zeros(18)

        class OtherAlignment(type(spatial.alignment)):
            pass

        def changed(where, new):
            return dataclasses.replace(spatial, vae=eqx.tree_at(where, spatial.vae, new))

        decoder = spatial.vae.decoder
        static = jax.tree.unflatten(jax.tree.structure(decoder), jax.tree.leaves(decoder))
        object.__setattr__(static, "activation", jax.nn.relu)
        biasless = eqx.nn.Linear(2, 16, use_bias=False, key=jax.random.key(0))
        alignment = OtherAlignment(spatial.alignment.weights, spatial.alignment.reference)
        assert explorable(spatial) is None
        assert "Other; expected an MLPDecoder" in explorable(changed(lambda vae: vae.decoder, Other()))
        assert "activation" in explorable(changed(lambda vae: vae.decoder, static))
        assert "Linear with a bias" in explorable(changed(lambda vae: vae.decoder.layers[0], biasless))
        assert "Categorical" in explorable(changed(lambda vae: vae.likelihood, Categorical()))
        assert "OtherAlignment" in explorable(dataclasses.replace(spatial, alignment=alignment))
