"""Distances between distributions, how large they get by chance, and how sure a metric is. Knows no models."""

from raymlops.stats.distances import ks_distance, psi, total_variation
from raymlops.stats.influence import Interval, difference, influence, interval, metric_value
from raymlops.stats.noise import ks_noise, psi_noise, total_variation_noise

__all__ = [
    "Interval",
    "difference",
    "influence",
    "interval",
    "ks_distance",
    "ks_noise",
    "metric_value",
    "psi",
    "psi_noise",
    "total_variation",
    "total_variation_noise",
]
