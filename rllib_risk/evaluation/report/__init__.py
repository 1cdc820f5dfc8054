"""The report of results: one HTML page that needs no other file."""

from rllib_risk.evaluation.report.build import write_report

__all__ = ["write_report"]
