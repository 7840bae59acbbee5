"""Kinds of sink, one file each: where rows are written."""
