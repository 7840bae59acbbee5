"""Summaries of a column that merge: memory does not depend on the number of rows. Knows nothing of drift."""

from raymlops.sketch.column import ColumnProfile, merge, profile_categories, profile_numbers

__all__ = ["ColumnProfile", "merge", "profile_categories", "profile_numbers"]
