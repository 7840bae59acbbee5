"""Kinds of drift test, one file each: a distance between two profiles."""
