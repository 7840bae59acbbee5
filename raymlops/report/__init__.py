"""The report, an HTML page of quality, drift, sweep, engines and accounts, and the card of a version of a model."""

from raymlops.report.card import card_html, card_markdown, card_of
from raymlops.report.input import ReportInput, report_input
from raymlops.report.page import page, write_page

__all__ = ["ReportInput", "card_html", "card_markdown", "card_of", "page", "report_input", "write_page"]
