"""Batch scoring: every row of a source answered, refused with a reason, or filtered; one manifest makes it visible."""

from raymlops.score.foreign import Udf, udf
from raymlops.score.run import run

__all__ = ["Udf", "run", "udf"]
