"""What a process of a lasting cluster imports beside `warm`, for the trials of sweeps, while there is no work yet."""

from raymlops.cluster.warm import waits_for_work

__all__: list[str] = []

if waits_for_work():
    import raymlops.train.on_ray  # noqa: F401
