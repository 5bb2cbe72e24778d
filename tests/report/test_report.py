"""A report holds the verdict, every table, every figure, the explorer, and how to make it again, in one file."""

import dataclasses
import html
import re
import sys
from importlib.metadata import version

import equinox as eqx
import numpy as np
import pytest

import mdvae
from mdvae.evaluation.tables import tables
from mdvae.networks import AbstractDecoder
from mdvae.report import document
from mdvae.report.explorer import explorable
from mdvae.report.writing import _explorer


class Constant(AbstractDecoder):
    """A decoder that no page knows."""

    def __call__(self, z):
        return np.zeros(12)


@pytest.fixture(scope="module")
def found(trained, chain):
    return mdvae.evaluate(trained, chain, n_generated=100)


@pytest.fixture(scope="module")
def text(trained, found):
    return document(trained, found, command="mdvae report <chain> 'x y'")


def test_every_finding_is_there(text, found):
    for kind, finding in zip(found.verdict.kinds, found.verdict.findings, strict=True):
        assert f'<div class="verdict {kind}"><p>{html.escape(finding)}</p></div>' in text
    for use, answer in found.verdict.uses.items():
        assert answer in re.search(r'class="uses">(.*?)<h3>', text, re.S)[1], use


def test_every_number_of_every_table_is_there(text, found):
    written = re.sub(r"<[^>]*>", "|", text)
    for table in tables(found):
        for row in table.rows:
            assert "|".join(f"{html.escape(cell)}|" for cell in row) in written, row
        for note in table.notes:
            assert html.escape(note) in written


def test_figures_are_in_the_file(text):
    sources = re.findall(r'<img src="([^"]*)"', text)
    assert len(sources) > 10
    assert all(source.startswith("data:image/png;base64,iVBOR") for source in sources)
    # Plotly's own script holds addresses that nothing here asks for.
    assert "://" not in re.sub(r"<script.*?</script>", "", text, flags=re.S)


def test_how_to_make_it_again(text):
    assert "mdvae report &lt;chain&gt; &#x27;x y&#x27;" in text
    for package in ("mdvae", "jax", "mdtraj", "plotly"):
        assert f'<tr><th scope="row">{package}</th><td class="number">{version(package)}</td></tr>' in text
    assert "seed=0" in text


def test_opens_in_a_browser(text, opened, trained):
    page = opened(text)
    z = np.array([0.3, -0.4, 0.1])
    decoded = np.array(list(page("z => Array.from(window.mdvae.decode(z))", z.tolist())))
    expected = mdvae.decode(trained, z[None], restore=False).xyz[0, :, :2]
    np.testing.assert_allclose(decoded.reshape(-1, 2), expected, atol=1e-4)
    assert page("Array.from(document.images).every(image => image.complete && image.naturalWidth > 0)")
    assert page.errors == []
    assert page.requests == []


def test_what_cannot_be_explored_says_why(trained):
    composed = dataclasses.replace(trained, vae=eqx.tree_at(lambda vae: vae.decoder, trained.vae, Constant()))
    reason = explorable(composed)
    assert reason
    assert html.escape(reason) in _explorer(composed)


def test_a_page_without_plotly(trained, chain, tmp_path, monkeypatch):
    """Said before any work is done, and nothing is written."""
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    monkeypatch.setattr("mdvae.report.writing.evaluate", None)
    with pytest.raises(ImportError, match=r'pip install "mdvae\[report\]"'):
        mdvae.write_report(trained, chain, tmp_path / "r.html")
    assert not list(tmp_path.iterdir())


def test_nothing_is_half_written(trained, chain, tmp_path, monkeypatch):
    monkeypatch.setattr("mdvae.report.writing.document", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        mdvae.write_report(trained, chain, tmp_path / "r.html", n_generated=20)
    assert not list(tmp_path.iterdir())
