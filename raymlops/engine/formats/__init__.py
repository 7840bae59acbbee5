"""Kinds of model format, one file each: how a family of models lies in a version's folder."""
