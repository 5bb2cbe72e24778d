"""One HTML file that holds everything it shows: styles, scripts and data. A browser fetches nothing for it."""

import html
import re
from collections.abc import Sequence
from importlib import resources

# The browser itself holds the page to it. What plotly's 3-D drawing compiles needs eval.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; worker-src blob:"
)

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}
</style>
<script>window.PlotlyConfig = {{MathJaxConfig: "local"}};</script>
<script>
{plotly}
</script>
</head>
<body>
<header>
<h1>{title}</h1>
{contents}
</header>
<main>
{sections}
</main>
</body>
</html>
"""


def page(title: str, sections: Sequence[tuple[str, str]]) -> str:
    """Whole HTML document: a title, a table of contents, and sections one after another.

    Plotly's script is in it once, so that sections may hold what ``Plotly`` draws. Tables get right-aligned numbers in
    cells of the class ``number``; a block of the classes ``verdict`` and ``good``, ``bad`` or ``note`` is a card.

    Parameters
    ----------
    title : str
        Plain text.
    sections : sequence of (heading, content)
        The heading is plain text, the content an HTML fragment, which is taken as it is.

    Returns
    -------
    str

    Raises
    ------
    ImportError
        Where plotly is not installed.
    """
    headings = [html.escape(heading) for heading, _ in sections]
    return _PAGE.format(
        policy=_POLICY,
        title=html.escape(title),
        style=resources.files("mdvae.report").joinpath("page.css").read_text("utf-8"),
        plotly=inline(plotly_script()),
        contents=_contents(headings),
        sections="\n".join(
            _section(number, heading, content)
            for number, (heading, (_, content)) in enumerate(zip(headings, sections, strict=True), 1)
        ),
    )


def inline(script: str) -> str:
    """Script as it may stand between tags: what would end it is escaped, which in a string means the same."""
    return re.sub("</(?=script)", r"<\\/", script, flags=re.IGNORECASE)


def plotly_script() -> str:
    """Plotly's own script, some 5 MB.

    Raises
    ------
    ImportError
        Where plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ImportError('a report needs plotly, which is not installed; try pip install "mdvae[report]"') from error
    return get_plotlyjs()


def _contents(headings: Sequence[str]) -> str:
    links = "\n".join(
        f'<li><a href="#section-{number}">{heading}</a></li>' for number, heading in enumerate(headings, 1)
    )
    return f'<nav aria-label="Contents">\n<ol>\n{links}\n</ol>\n</nav>' if headings else ""


def _section(number: int, heading: str, content: str) -> str:
    name = f"section-{number}"
    title = f'<h2 id="{name}-heading">{heading}</h2>'
    return f'<section id="{name}" aria-labelledby="{name}-heading">\n{title}\n{content}\n</section>'
