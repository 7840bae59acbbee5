"""Networks as users write them, and some that cannot be taken."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn


class Wide(nn.Module):  # type: ignore[misc]  # torch has no types here
    """One hidden layer over numbers and an embedding of each category."""

    def __init__(self, features: int, categories: Sequence[int], outputs: int, hidden: int) -> None:
        super().__init__()
        self.numbers = [j for j, count in enumerate(categories) if not count]
        self.categories = [j for j, count in enumerate(categories) if count]
        self.embeddings = nn.ModuleList(nn.Embedding(count + 1, 2) for count in categories if count)
        width = len(self.numbers) + 2 * len(self.categories)
        self.layers = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, outputs))

    def forward(self, x: Any) -> Any:
        parts = [x[:, self.numbers]]
        parts += [one(x[:, j].to(torch.int64)) for j, one in zip(self.categories, self.embeddings, strict=True)]
        return self.layers(torch.cat(parts, dim=1))


class Narrow(nn.Module):  # type: ignore[misc]  # torch has no types here
    """Gives two values where one is asked for."""

    def __init__(self, features: int, categories: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(features, outputs + 1)

    def forward(self, x: Any) -> Any:
        return self.layer(x)


class Broken(nn.Module):  # type: ignore[misc]  # torch has no types here
    """Fails on every row."""

    def __init__(self, features: int, categories: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(features + 1, outputs)

    def forward(self, x: Any) -> Any:
        return self.layer(x)


class Plain:
    """No module at all."""

    def __init__(self, features: int, categories: Sequence[int], outputs: int) -> None:
        self.features = features
