import html.parser
import sys

import pytest

from mdvae.report.page import inline, page

pytest.importorskip("plotly", reason="plotly is not installed")


class Tags(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


def test_text_is_escaped_and_content_is_not(opened):
    title = '<b>A & "B"</b></title><script>window.broken = 1</script>'
    heading = "x < y & 'z' <img src=x>"
    shown = opened(page(title, [(heading, "<p id='here'>content</p>")]))
    assert shown("document.title") == title
    assert shown("document.querySelector('h1').textContent") == title
    assert shown("document.querySelector('h2').textContent") == heading
    assert shown("document.querySelector('nav a').textContent") == heading
    assert shown("document.getElementById('here').textContent") == "content"
    assert shown("typeof window.broken") == "undefined"
    assert (shown.errors, shown.requests) == ([], [])


def test_contents_lead_to_the_sections(opened):
    shown = opened(page("report", [("One", "<p>1</p>"), ("Two", "<p>2</p>")]))
    targets = (
        "[...document.querySelectorAll('nav a')].map(a => document.querySelector(a.getAttribute('href')).innerText)"
    )
    assert [text.split() for text in shown(targets)] == [["One", "1"], ["Two", "2"]]


def test_no_sections_no_contents():
    assert not Tags(page("report", [])).all("nav")


def test_refers_to_nothing_outside_of_itself():
    tags = Tags(page("report", [("One", "<p>1</p>")]))
    assert not tags.all("link")
    addresses = [
        value for _, at in tags.tags for name, value in at.items() if name in ("src", "href", "srcset", "data")
    ]
    assert addresses == ["#section-1"]


def test_plotly_is_there_once_and_draws(opened):
    text = page("report", [("One", "<div id='plot'></div>"), ("Two", "")])
    assert text.count("* plotly.js v") == 1
    shown = opened(text)
    shown("Plotly.newPlot('plot', [{y: [1, 3, 2]}])")
    assert shown("document.querySelectorAll('#plot .scatterlayer path.point').length") == 3
    assert (shown.errors, shown.requests) == ([], [])


def test_browser_fetches_nothing_even_if_a_section_asks(opened):
    outside = "http://192.0.2.1/picture.png"
    shown = opened(page("report", [("One", f'<img src="{outside}"><script src="{outside}"></script>')]))
    assert len(shown.errors) == 2
    assert all("Content Security Policy" in error for error in shown.errors)


def test_verdicts_are_told_apart_without_color(opened):
    kinds = ("good", "bad", "note")
    shown = opened(page("report", [("One", "".join(f"<div class='verdict {kind}'>{kind}</div>" for kind in kinds))]))
    signs = shown("[...document.querySelectorAll('.verdict')].map(v => getComputedStyle(v, '::before').content)")
    borders = shown("[...document.querySelectorAll('.verdict')].map(v => getComputedStyle(v).borderLeftStyle)")
    assert len(set(signs)) == len(set(borders)) == 3
    assert "none" not in signs


def test_script_cannot_end_early():
    assert inline("a = '</script>' + '</SCRIPT>' + '</b>'") == "a = '<\\/script>' + '<\\/SCRIPT>' + '</b>'"


def test_missing_plotly_is_said_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(ImportError, match=r'pip install "mdvae\[report\]"') as raised:
        page("report", [])
    assert "\n" not in str(raised.value)
