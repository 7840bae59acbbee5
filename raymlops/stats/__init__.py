"""Distances between distributions, and how large they get by chance. Knows nothing of columns, models or files."""

from raymlops.stats.distances import ks_distance, psi, total_variation
from raymlops.stats.noise import ks_noise, psi_noise, total_variation_noise

__all__ = ["ks_distance", "ks_noise", "psi", "psi_noise", "total_variation", "total_variation_noise"]
