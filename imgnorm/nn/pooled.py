"""Statistics of activations, pooled over any number of batches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Pooled:
    """Count, mean and squared deviations per channel, in float64.

    `a + b` is what the two batches together would give: between-batch variance is in it, and a
    short batch weighs what it holds (Chan, Golub & LeVeque 1983, eq. 2.1).
    """

    count: int  # values per channel
    mean: Tensor  # (C,)
    squared: Tensor  # (C,), Σ(x − mean)²

    def __add__(self, other: Pooled) -> Pooled:
        if not self.count or not other.count:
            return self if self.count else other
        count = self.count + other.count
        delta = other.mean - self.mean
        return Pooled(
            count,
            self.mean + delta * (other.count / count),
            self.squared + other.squared + delta.square() * (self.count * other.count / count),
        )

    @property
    def variance(self) -> Tensor:
        """Population variance: correction 0."""
        return self.squared / self.count

    def to(self, device: torch.device) -> Pooled:
        return Pooled(self.count, self.mean.to(device), self.squared.to(device))


def pooled_of(activations: Tensor) -> Pooled:
    """The statistics of one batch.

    Args:
        activations: float, (N, C, ...); N may be 0.
    """
    channels = activations.shape[1]
    count = activations.numel() // channels if channels else 0
    if not count:
        nothing = activations.new_zeros(channels, dtype=torch.float64)
        return Pooled(0, nothing, nothing)
    dims = [0, *range(2, activations.ndim)]
    variance, mean = torch.var_mean(activations.double(), dims, correction=0)
    return Pooled(count, mean, variance * count)
