"""Keys by purpose: stable, and apart from each other and from anything counted."""

import jax
import numpy as np

from dwm_jax.runtime.keys import key_for, tagged


def bits(key):
    return tuple(np.asarray(jax.random.key_data(key)).tolist())


def test_a_purpose_has_the_same_key_in_every_process():
    # zlib's crc32 of the bytes "policy: updates" is 0x73536d97; with the highest bit set it is what is folded in.
    assert bits(key_for(3, "policy: updates")) == bits(jax.random.fold_in(jax.random.key(3), np.uint32(0xF3536D97)))


def test_no_purpose_meets_another_or_a_counter():
    root = jax.random.key(0)
    purposes = ["policy: updates", "policy: initial state", "dwm: training", "dwm: initial state", "dwm: generation"]
    keys = [tagged(root, purpose) for purpose in purposes]
    counted = {bits(jax.random.fold_in(root, step)) for step in range(50)} | {
        bits(key) for key in jax.random.split(root)
    }
    assert len({bits(key) for key in keys}) == len(keys)
    assert not counted & {bits(key) for key in [*keys, root]}
