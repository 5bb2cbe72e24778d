"""Pages in a real browser that has no network."""

import shutil

import pytest

# No graphics card is needed: WebGL is drawn in software.
_ARGUMENTS = (
    "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist",
    "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
)  # fmt: skip


class Opened:
    """A page in the browser, what it complained about, and what it asked for besides its own file."""

    def __init__(self, context, address):
        self.errors, self.requests = [], []
        self.page = context.new_page()
        self.page.on("console", lambda message: message.type == "error" and self.errors.append(message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: request.url != address and self.requests.append(request.url))
        self.page.goto(address)

    def __call__(self, script, argument=None):
        """Value of an expression in the page."""
        return self.page.evaluate(script, argument)

    def drawn(self, trace, key):
        """What is drawn in 3-D: a trace's numbers along an axis."""
        return self(f"document.getElementById('mdvae-explorer-structure').data[{trace}].{key}")


@pytest.fixture(scope="session")
def _browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=chromium, args=list(_ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def opened(_browser, tmp_path):
    """Function of a page's text: the page, opened from a file with the network off."""
    context = _browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)

    def open_page(text):
        path = tmp_path / "page.html"
        path.write_text(text, "utf-8")
        return Opened(context, path.as_uri())

    yield open_page
    context.close()
