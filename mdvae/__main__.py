"""``python -m mdvae``: the command line."""

from mdvae.cli import entry

entry()
