"""What a process of a new node imports for sweeps while there is no work yet. Knows nothing of the work."""

from raymlops.score.warm import import_xgboost, waits_for_work

__all__: list[str] = []

if waits_for_work():
    import_xgboost()

    import sklearn.metrics  # noqa: F401

    import raymlops.train.on_ray  # noqa: F401
