"""Kinds of search, one file each: which points of a space are tried."""
