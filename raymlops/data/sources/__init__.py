"""Kinds of source, one file each: where rows are read."""
