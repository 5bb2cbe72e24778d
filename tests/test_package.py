"""The package as a whole: what it exports, what importing it costs, what it promises on paper."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mdvae

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", mdvae.__all__)
def test_every_public_name_is_documented(name):
    documented = getattr(mdvae, name)
    assert inspect.getdoc(documented)
    assert name in dir(mdvae)


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = mdvae.nothing


def test_importing_and_helping_is_cheap():
    """Neither the import nor --help may pull in what only the work needs."""
    code = (
        "import sys, mdvae, mdvae.cli\n"
        "try: sys.argv = ['mdvae', 'fit', '--help']; mdvae.cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'jax', 'equinox', 'mdtraj', 'matplotlib', 'scipy', 'optax', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_printing_is_left_to_the_command_line():
    for path in (ROOT / "mdvae").rglob("*.py"):
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        assert not [call for call in calls if isinstance(call, ast.Name) and call.id == "print"], path


def test_code_in_the_readme_calls_what_exists():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    called = {name for block in blocks for name in re.findall(r"mdvae\.(\w+)", block)}
    assert {"fit", "encode", "decode", "generate", "minimize", "evaluate", "save", "load"} <= called
    assert called <= set(mdvae.__all__) | {"mdvae"}


def test_commands_in_the_readme_are_commands():
    from mdvae.cli import app

    text = (ROOT / "README.md").read_text()
    verbs = {verb.replace("-", "_") for verb in re.findall(r"^mdvae ([\w-]+)", text, re.MULTILINE)} | {"demo"}
    assert verbs == {command.callback.__name__ for command in app.registered_commands}
