"""Normalisers: fit on data once (host), then apply and invert anywhere (jit-able, elementwise over rows).

All three are increasing per-dimension maps and share one shape of code: piecewise-linear interpolation for the
empirical CDF, an affine map for min-max and standard. `low` and `high` bound the normalised data; a sampler
clips there. A constant dimension maps to 0 and back to its constant.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from dwm_jax.types import Array

# Knots of the empirical CDF. The round trip x -> y -> x loses at most range * (knots / 2) * float32 epsilon,
# 0.8e-5 of a dimension's range at 257 knots; more knots would resolve the CDF finer and invert worse.
NUM_CDF_KNOTS = 257


class Normalizer(Protocol):
    """An increasing map of each of D dimensions, its inverse, and the range the data takes under it."""

    @property
    def low(self) -> Array: ...

    @property
    def high(self) -> Array: ...

    def normalize(self, x: Array) -> Array:
        """Raw units (..., D) -> normalised (..., D)."""
        ...

    def denormalize(self, y: Array) -> Array:
        """Normalised (..., D) -> raw units (..., D)."""
        ...


class CdfNormalizer(NamedTuple):
    """Each dimension through its empirical CDF to [-1, 1], linear between quantiles, clipped outside."""

    values: Array  # (D, NUM_CDF_KNOTS) increasing data values
    heights: Array  # (D, NUM_CDF_KNOTS) increasing, from -1 to 1
    low: Array  # (D,)
    high: Array  # (D,)

    def normalize(self, x: Array) -> Array:
        return _interpolate(x, self.values, self.heights)

    def denormalize(self, y: Array) -> Array:
        return _interpolate(y, self.heights, self.values)


class AffineNormalizer(NamedTuple):
    """y = (x - offset) / scale, per dimension."""

    offset: Array  # (D,)
    scale: Array  # (D,) > 0
    low: Array  # (D,)
    high: Array  # (D,)

    def normalize(self, x: Array) -> Array:
        return (x - self.offset) / self.scale

    def denormalize(self, y: Array) -> Array:
        return y * self.scale + self.offset


def fit_cdf(data: np.ndarray) -> CdfNormalizer:
    """Empirical CDF scaled to [-1, 1]; source: DWM appendix (the normaliser of Diffuser, Janner et al. 2022).

    Args:
      data: raw rows, shape (R, D), R >= 1.
    """
    values, heights = zip(*(_cdf_knots(column) for column in np.asarray(data, np.float64).T), strict=True)
    values_DK, heights_DK = (jnp.asarray(np.stack(knots), jnp.float32) for knots in (values, heights))
    return CdfNormalizer(values_DK, heights_DK, heights_DK[:, 0], heights_DK[:, -1])


def fit_min_max(data: np.ndarray) -> AffineNormalizer:
    """[min, max] of each dimension to [-1, 1].

    Args:
      data: raw rows, shape (R, D), R >= 1.
    """
    low, high = data.min(axis=0).astype(np.float64), data.max(axis=0).astype(np.float64)
    return _affine((low + high) / 2, (high - low) / 2, low, high)


def fit_standard(data: np.ndarray) -> AffineNormalizer:
    """Mean 0 and standard deviation 1 in each dimension.

    Args:
      data: raw rows, shape (R, D), R >= 1.
    """
    rows = np.asarray(data, np.float64)
    return _affine(rows.mean(axis=0), rows.std(axis=0), rows.min(axis=0), rows.max(axis=0))


FITTERS: dict[str, Callable[[np.ndarray], Normalizer]] = {
    "cdf": fit_cdf,
    "min_max": fit_min_max,
    "standard": fit_standard,
}


def _affine(offset: np.ndarray, scale: np.ndarray, low: np.ndarray, high: np.ndarray) -> AffineNormalizer:
    # A spread below float32's resolution of the values is a constant dimension: leave its scale at 1.
    tiny = np.finfo(np.float32).eps * np.maximum(np.abs(offset), 1e-30)
    scale = np.where(scale <= tiny, 1.0, scale)
    fields = (offset, scale, (low - offset) / scale, (high - offset) / scale)
    return AffineNormalizer(*(jnp.asarray(field, jnp.float32) for field in fields))


def _cdf_knots(column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Strictly increasing (values, heights) of one dimension, padded at the end to NUM_CDF_KNOTS."""
    levels = np.linspace(0.0, 1.0, NUM_CDF_KNOTS)
    # float32 first: values that coincide there are one knot.
    quantiles = np.quantile(column, levels).astype(np.float32).astype(np.float64)
    values, inverse, counts = np.unique(quantiles, return_inverse=True, return_counts=True)
    # A value that spans several levels (a tie) stands at their mean; the ends stay at -1 and 1.
    heights = 2 * np.bincount(inverse, weights=levels) / counts - 1
    if len(values) == 1:
        heights = np.zeros(1)
    else:
        heights[0], heights[-1] = -1.0, 1.0
    padding = (0, NUM_CDF_KNOTS - len(values))
    return np.pad(values, padding, mode="edge"), np.pad(heights, padding, mode="edge")


def _interpolate(x: Array, from_DK: Array, to_DK: Array) -> Array:
    flat = x.reshape(-1, x.shape[-1])
    columns = jax.vmap(jnp.interp, in_axes=(1, 0, 0), out_axes=1)(flat, from_DK, to_DK)
    return columns.reshape(x.shape)
