"""Kinds of engine, one file each: a way to run a model."""
