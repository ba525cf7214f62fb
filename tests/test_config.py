"""The schema's checks: what is refused, and that the line says what is allowed."""

import json

import pytest
from ml_collections import ConfigDict

from dwm_jax.config import ConfigError, check, default_config, differences, to_json
from experiments.configs import grid, locomotion, maze2d, quickstart, smoke
from tests import tiny

SHIPPED = {
    "schema": default_config(),
    "quickstart": quickstart.get_config(),
    "smoke": smoke.get_config(),
    "grid": grid.get_config("large"),
    "maze2d": maze2d.get_config("large"),
    "locomotion": locomotion.get_config("walker2d-medium-v2"),
}


@pytest.mark.parametrize("config", SHIPPED.values(), ids=SHIPPED)
def test_shipped_configs_pass(config: ConfigDict) -> None:
    check(config, num_devices=1)


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("policy__horizon", 4, "H < T"),  # the tiny config's T is 4
        ("policy__horizon", 0, "at least 1"),
        ("world_models__dwm__num_sampling_steps", 6, "1 <= N <= K"),
        ("world_models__dwm__width", 12, "multiple of 8"),
        ("world_models__dwm__activations", "float16", '"float32" or "bfloat16"'),
        ("world_models__dwm__prediction", "x0", "one of noise, velocity"),
        ("world_models__dwm__observation_normalizer", "none", "cdf, min_max, standard"),
        ("task", "maze3d", "known tasks are maze2d-umaze"),
        ("methods", "TD3", "known: TD3+BC"),
        ("methods", "", "known: TD3+BC"),
        ("data__pad", "wrap", '"absorb" or "drop"'),
        ("gamma", 0.0, "discount"),
        ("checkpoint_every", 7, "multiple of updates_per_dispatch = 5"),
        ("policy__num_updates", 21, "multiple of updates_per_dispatch = 5"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_allowed(key: str, value: object, allowed: str) -> None:
    with pytest.raises(ConfigError, match=allowed.replace("+", r"\+")) as refusal:
        check(tiny.config(**{key: value}), num_devices=1)
    assert "\n" not in str(refusal.value)


def test_batch_must_divide_over_the_devices() -> None:
    with pytest.raises(ConfigError, match=r"policy\.batch_size=16 .* 3 device"):
        check(tiny.config(), num_devices=3)


def test_unknown_key_is_refused_when_it_is_set() -> None:
    config = default_config()
    with pytest.raises(AttributeError):
        config.policy.horizonn = 3


def test_horizon_is_free_where_no_diffusion_model_is_used() -> None:
    check(tiny.config(methods="OneStep-TD3BC", policy__horizon=9), num_devices=1)


def test_differences_name_the_key_and_both_values() -> None:
    earlier = json.loads(to_json(tiny.config()))
    assert differences(tiny.config(), earlier) == []
    assert differences(tiny.config(policy__horizon=2, seed=3), earlier) == ["policy.horizon: 3 -> 2", "seed: 0 -> 3"]
