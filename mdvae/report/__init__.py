"""A report of a model as one page that needs no network."""

from mdvae.report.writing import document, write_report

__all__ = ["document", "write_report"]
