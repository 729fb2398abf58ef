"""docs/performance.md, made from the committed results and what people wrote beside them."""

from benchmarks.report.document import write_report

__all__ = ["write_report"]
