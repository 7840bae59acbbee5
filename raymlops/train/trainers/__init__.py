"""Kinds of trainer, one file each: a family of models and its hyperparameters."""
