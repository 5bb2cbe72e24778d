"""A report: one HTML file with the verdict, the tables, the figures, the explorer, and how to make it again."""

import base64
import html
import io
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mdvae import plots
from mdvae._files import replacing
from mdvae.evaluation import Evaluation, Verdict, evaluate
from mdvae.evaluation.ensemble import Marginal
from mdvae.evaluation.tables import Table, tables
from mdvae.evaluation.verdict import NAMES
from mdvae.latent.encoding import encode_posed
from mdvae.model import Model
from mdvae.report.explorer import explorable, explorer
from mdvae.report.page import page, plotly_script
from mdvae.vae import evenly

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Dots an inch: sharp on a screen, and small.
_DPI = 130
# Of each family of marginals those are shown that are furthest off.
_SHOWN = {"radius of gyration": 1, "end to end": 1, "distance": 3, "bond": 2, "angle": 2, "torsion": 3}
# Residues whose maps are shown: those that are furthest off.
_MOST_MAPS = 3
_PACKAGES = ("mdvae", "jax", "jaxlib", "equinox", "mdtraj", "numpy", "scipy", "matplotlib", "plotly")
_SIGNS = {"yes": "good", "with care": "note", "no": "bad"}


def write_report(
    model: Model, source: Any, path: str | os.PathLike, *, command: str = "", **options: Any
) -> Evaluation:
    """Evaluate a model and write one HTML file that shows everything and needs no network.

    It holds the verdict, a latent explorer that decodes the structure under the pointer in the page itself, the tables
    and figures, and how to make it again.

    Parameters
    ----------
    model : Model
        Trained.
    source : path, mdtraj.Trajectory, MDAnalysis Universe or AtomGroup, array (n_frames, n_atoms, dim), or a list
        Best a run that the model was not trained on.
    path : path
        Such as ``report.html``.
    command : str, optional
        What to run to make it again, for the record.
    **options
        As for `evaluate`.

    Returns
    -------
    Evaluation

    Raises
    ------
    ImportError
        Where plotly is not installed (``pip install "mdvae[report]"``).
    ValueError, OSError
        As `evaluate`, and where the file cannot be written.
    """
    # A missing package or folder should not cost the evaluation: ask for them first.
    plotly_script()
    if not Path(path).parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no folder {Path(path).parent}")
    found = evaluate(model, source, **options)
    text = document(model, found, command=command)
    with replacing(path) as temporary:
        temporary.write_text(text, "utf-8")
    return found


def document(model: Model, found: Evaluation, *, command: str = "") -> str:
    """The report of an evaluation, as HTML.

    Parameters
    ----------
    model : Model
    found : Evaluation
    command : str
        What to run to make it again.
    """
    by_heading = {table.heading.split(" ")[0]: _table(table) for table in tables(found)}
    sections = [
        ("Verdict", _verdict(found)),
        ("Latent explorer", _explorer(model)),
        ("Reconstruction", _reconstruction(model, found, by_heading)),
        ("Structures", _left_out(found) or by_heading["structures"] + _walk(model)),
        ("Ensemble", _ensemble(found, by_heading)),
        ("Latent space", _latent_space(model, found, by_heading["neighbors"])),
        ("Kinetics", _kinetics(found, by_heading.get("kinetics", ""))),
        ("Model and training", _training(model)),
        ("How to make this again", _again(found, command)),
    ]
    return page(f"mdvae report: {_title(model)}", sections)


def _title(model: Model) -> str:
    system = model.system
    chosen = f" ({system.select})" if system.select else ""
    return f"{system.n_atoms} atoms{chosen}, {model.latent_dim} latent dimension{'s' * (model.latent_dim > 1)}"


# -- sections


def _verdict(found: Evaluation) -> str:
    verdict: Verdict = found.verdict
    cards = [
        _card(_SIGNS[answer], f"{NAMES[use].capitalize()}: {answer}", strong=True)
        for use, answer in verdict.uses.items()
    ]
    because = [_card(kind, text) for kind, text in zip(verdict.kinds, verdict.findings, strict=True)]
    return "\n".join(
        [f"<p>{_lines(found.head)}</p>", '<div class="uses">', *cards, "</div>", "<h3>Because</h3>", *because]
    )


def _card(kind: str, text: str, *, strong: bool = False) -> str:
    content = f"<strong>{html.escape(text)}</strong>" if strong else html.escape(text)
    return f'<div class="verdict {kind}"><p>{content}</p></div>'


def _explorer(model: Model) -> str:
    reason = explorable(model)
    if reason is not None:
        return f"<p>This model cannot be explored in a page: {html.escape(reason)}.</p>"
    assert model.data is not None
    lengths, n_kept = model.settings.get("lengths", ()), len(model.data.frames)
    if model.data.weights is not None:
        # What is drawn is a density: what weighs much comes several times.
        return explorer(model, encode_posed(model, model.data.frames[evenly(n_kept, model.data.weights)]))
    # Where not all frames are kept, their numbers in their own trajectories are not known any more.
    trajectory = np.repeat(np.arange(len(lengths)), lengths) if sum(lengths) == n_kept else None
    several = trajectory is not None and len(lengths) > 1
    return explorer(model, encode_posed(model, model.data.frames), trajectory=trajectory if several else None)


def _left_out(found: Evaluation) -> str:
    """Why there is nothing about structures, where there is nothing."""
    reason = found.without_structures
    return f"<p>Left out: {html.escape(reason)}.</p>" if reason else ""


def _reconstruction(model: Model, found: Evaluation, by_heading: dict[str, str]) -> str:
    from mdvae.trajectory import atom_names

    one = found.reconstruction
    if one is None:
        return _left_out(found)
    drawn = [
        (lambda: plots.reconstruction_errors(one), "Error of each held-out frame, beside PCA of the same size."),
        (lambda: plots.errors_per_atom(one, atom_names(model.system.topology)), "Error of each atom."),
    ]
    return by_heading["reconstruction"] + by_heading["reconstructions"] + _figures(drawn)


def _walk(model: Model) -> str:
    drawn = [
        (
            lambda dim=dim: plots.latent_walk(model, dim),
            f"Decoded and restored structures along latent coordinate {dim + 1}.",
        )
        for dim in range(min(model.latent_dim, 2))
    ]
    return _figures(drawn)


def _ensemble(evaluation: Evaluation, by_heading: dict[str, str]) -> str:
    found = evaluation.ensemble
    if found is None:
        return _left_out(evaluation)
    shown = _furthest_off(found.marginals)
    drawn: list[tuple[Callable[[], Any], str]] = [
        (
            lambda: plots.marginals(shown),
            "Distributions of the quantities that are furthest off of each family, with the noise floor as a band.",
        )
    ]
    for one in sorted(found.maps, key=lambda one: -one.divergence.value)[:_MOST_MAPS]:
        drawn.append((lambda one=one: plots.ramachandran(one), f"φ and ψ of {one.name}."))
    drawn.append((lambda: plots.rmsf(found.fluctuations), "Fluctuation of each atom about its mean position."))
    if found.contacts is not None:
        contacts = found.contacts
        drawn.append((lambda: plots.contact_map(contacts), "Contacts: held-out above, generated below the diagonal."))
        drawn.append((lambda: plots.contact_difference(contacts), "Contacts: generated less held-out."))
    return by_heading["ensemble"] + _figures(drawn)


def _furthest_off(marginals: Sequence[Marginal]) -> list[Marginal]:
    found: list[Marginal] = []
    for family, n in _SHOWN.items():
        members = [one for one in marginals if one.family == family]
        found += sorted(members, key=lambda one: -one.wasserstein.value)[:n]
    return found


def _latent_space(model: Model, found: Evaluation, table: str) -> str:
    one = found.latent_space
    drawn = [
        (
            lambda: plots.latent_density(one.training, points=one.held_out),
            "Free energy of the encoded training frames, with the held-out frames over it.",
        ),
        (lambda: plots.nearest_training(one), "How far structures are from the nearest training frame."),
    ]
    thin, texts = (
        found.undersampled,
        [str(part) for part in (found.undersampled, found.diagnostics) if part is not None],
    )
    if thin is not None:
        text = "Where the training data are thin" + (", and what was generated there." if thin.n_asked else ".")
        drawn.append((lambda: plots.thin_regions(thin), text))
    return table + _figures(drawn) + "\n".join(f"<pre>{html.escape(text)}</pre>" for text in texts)


def _kinetics(found: Evaluation, table: str) -> str:
    one = found.kinetics
    if one is None:
        return f"<p>Left out: {html.escape(found.without_kinetics)}.</p>"
    drawn = [
        (lambda: plots.implied_timescales(one), "Implied timescales, with error bars from blocks of time."),
        (lambda: plots.autocorrelation(one), "Autocorrelation of the latent coordinates."),
        (lambda: plots.vamp_scores(one), "VAMP-2 scores, cross-validated."),
    ]
    return table + _figures(drawn)


def _training(model: Model) -> str:
    text = f"<pre>{html.escape(str(model))}</pre>"
    history = model.history
    return text if history is None else text + _figures([(lambda: plots.loss_curves(history), "Training.")])


def _again(found: Evaluation, command: str) -> str:
    rows = tuple((name, _version(name)) for name in _PACKAGES)
    options = ", ".join(f"{name}={value!r}" for name, value in found.how.items())
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    parts = [f"<p>Made on {when}.</p>"]
    if command:
        parts.append(f"<pre>{html.escape(command)}</pre>")
    parts.append(f"<p>Options of the evaluation: {html.escape(options)}.</p>")
    return "\n".join([*parts, _table(Table("package", ("version",), rows))])


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


# -- pieces of HTML


def _table(table: Table) -> str:
    def cells(row: Sequence[str]) -> str:
        return "".join(f'<td class="number">{html.escape(cell)}</td>' for cell in row)

    head = "".join(f'<th class="number" scope="col">{html.escape(name)}</th>' for name in table.columns)
    body = "\n".join(f'<tr><th scope="row">{html.escape(label)}</th>{cells(row)}</tr>' for label, *row in table.rows)
    heading = html.escape(table.heading[:1].upper() + table.heading[1:])
    notes = f"<p><small>{html.escape(' '.join(table.notes))}</small></p>" if table.notes else ""
    top = f'<thead><tr><th scope="col">{heading}</th>{head}</tr></thead>'
    return f"<table>\n{top}\n<tbody>\n{body}\n</tbody>\n</table>\n{notes}\n"


def _figures(drawn: Sequence[tuple[Callable[[], "Figure"], str]]) -> str:
    return '<div class="figures">\n' + "\n".join(_figure(draw(), text) for draw, text in drawn) + "\n</div>\n"


def _figure(figure: "Figure", text: str) -> str:
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=_DPI)
    data = base64.b64encode(written.getvalue()).decode()
    # As wide as in print.
    width = round(96 * figure.get_figwidth())
    return (
        f'<figure><img src="data:image/png;base64,{data}" width="{width}" alt="{html.escape(text)}">'
        f"<figcaption>{html.escape(text)}</figcaption></figure>"
    )


def _lines(text: str) -> str:
    return "<br>".join(html.escape(line) for line in text.splitlines())
