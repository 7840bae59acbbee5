"""A network on a GPU as CUDA graphs, one a batch size: a call is one copy in, one launch. Knows nothing of formats.

A graph replays fixed addresses, so each batch size has buffers of its own: pinned memory here, from which the graph
copies to the device and into which it copies the answers. Fewer rows than a graph takes are filled up with zeros.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np

from raymlops.errors import EngineError
from raymlops.protocols import Predictor
from raymlops.values import Float32

__all__ = ["BATCHES", "captured", "parts"]

BATCHES = (1, 8, 32, 128, 512, 4096)
_WARM_UPS = 3  # as torch's own notes on CUDA graphs have it


def captured(
    network: Callable[[int], Callable[[Any], Any]],
    *,
    features: int,
    answer_shape: tuple[int, ...],
    where: str,
    batches: Sequence[int] = BATCHES,
) -> Predictor:
    """Return a predictor of what ``network(rows)`` returns: a function of a tensor on the GPU, [rows, features].

    All graphs share one stream, and their callers take turns. Raise EngineError where the GPU cannot do it.
    """
    import torch

    stream = torch.cuda.Stream()
    try:
        with torch.inference_mode(), torch.cuda.stream(stream):
            graphs = tuple(_graph(network(rows), rows, features, answer_shape, stream) for rows in batches)
    except RuntimeError as error:  # also what it raises when memory is out
        raise EngineError(f"{where}: the GPU cannot run it: {error}") from error
    return _Captured(graphs=graphs, stream=stream, answer_shape=answer_shape)


def parts(rows: int, batches: Sequence[int]) -> Iterator[tuple[slice, int]]:
    """Yield which rows go together, and the number of the batch size that takes them, the smallest that does.

    >>> list(parts(10, (1, 4)))
    [(slice(0, 4, None), 1), (slice(4, 8, None), 1), (slice(8, 10, None), 1)]
    """
    for start in range(0, rows, batches[-1]):
        stop = min(start + batches[-1], rows)
        yield slice(start, stop), next(n for n, size in enumerate(batches) if size >= stop - start)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Graph:
    rows: int
    given: Float32
    answers: Float32
    graph: Any
    kept: tuple[Any, ...]  # the graph holds addresses, not owners


@dataclass(frozen=True, slots=True, kw_only=True)
class _Captured:
    graphs: Sequence[_Graph]
    stream: Any
    answer_shape: tuple[int, ...]
    turn: Lock = field(default_factory=Lock)

    def predict(self, x: Float32) -> Float32:
        import torch

        answers = np.empty((len(x), *self.answer_shape), dtype=np.float32)
        with self.turn, torch.cuda.stream(self.stream):
            for rows, number in parts(len(x), [one.rows for one in self.graphs]):
                graph, count = self.graphs[number], rows.stop - rows.start
                graph.given[:count], graph.given[count:] = x[rows], 0.0
                graph.graph.replay()
                self.stream.synchronize()
                answers[rows] = graph.answers[:count]
        return answers


def _graph(run: Callable[[Any], Any], rows: int, features: int, answer_shape: tuple[int, ...], stream: Any) -> _Graph:
    """Capture: pinned rows to the device, the network, its answers to pinned memory."""
    import torch

    given = torch.zeros((rows, features), dtype=torch.float32, pin_memory=True)
    answers = torch.zeros((rows, *answer_shape), dtype=torch.float32, pin_memory=True)
    inside = given.to("cuda")
    for _ in range(_WARM_UPS):
        answers.copy_(run(inside), non_blocking=True)
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        inside.copy_(given, non_blocking=True)
        outside = run(inside)
        answers.copy_(outside, non_blocking=True)
    return _Graph(
        rows=rows,
        given=given.numpy(),
        answers=answers.numpy(),
        graph=graph,
        kept=(run, given, answers, inside, outside),
    )
