"""Random keys by purpose: every use of randomness has a named tag, so that no two of them share a key."""

import zlib

import jax
import numpy as np

from dwm_jax.types import Key

# A seed is one of 0 .. NUM_SEEDS - 1: 32 bits, and 2^32 would be 0 again.
NUM_SEEDS = 2**32


def tagged(key: Key, purpose: str) -> Key:
    """The key of one purpose below another key.

    `fold_in` with a number that no counter of steps, pairs or seeds (below 2^31) reaches, whatever else is folded into
    or split off the same key.

    Args:
      purpose: a name, the same wherever this purpose's key is wanted again.
    """
    return jax.random.fold_in(key, np.uint32(zlib.crc32(purpose.encode()) | 1 << 31))


def key_for(seed: int, purpose: str) -> Key:
    """The root key of one purpose under a seed."""
    return tagged(jax.random.key(seed), purpose)
