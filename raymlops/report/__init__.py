"""The report: one HTML page of quality, drift, sweep, engines and accounts, with no script and nothing from outside."""

from raymlops.report.input import ReportInput, report_input
from raymlops.report.page import page, write_page

__all__ = ["ReportInput", "page", "report_input", "write_page"]
