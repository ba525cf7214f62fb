"""The schema's checks: what is refused, and that the line says what is allowed."""

import json
import re

import pytest
from ml_collections import ConfigDict

from dwm_jax.config import ConfigError, check, default_config, differences, methods_of, to_json
from dwm_jax.learners.td3_bc import TD3BC
from dwm_jax.limits import MOST_SHARE, is_used, value_at
from dwm_jax.recipes import PAPER, RECIPES, WITHOUT
from dwm_jax.registry import LEARNERS, METHODS, MODELS, Learning, split_names
from dwm_jax.world_models.dwm import DiffusionWorldModel
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
        ("policy__horizon", 4, "at most 3, the longest that the world model dwm imagines"),  # the tiny config's T is 4
        ("policy__horizon", 0, "at least 1"),
        ("world_models__dwm__num_sampling_steps", 6, "1 <= N <= K"),
        ("world_models__dwm__width", 12, "multiple of 8"),
        ("world_models__dwm__activations", "float16", '"float32" or "bfloat16"'),
        ("world_models__dwm__prediction", "x0", "one of noise, velocity"),
        ("world_models__dwm__observation_normalizer", "none", "cdf, min_max, standard"),
        ("task", "maze3d", "known tasks are maze2d-umaze"),
        ("task", "Maze2D-umase", "did you mean 'maze2d-umaze'? known tasks are maze2d-umaze"),
        ("methods", "TD3", "known: TD3+BC"),
        ("methods", "", "names no method; known: TD3+BC"),
        ("methods", "IQL,td3+bc", "unknown method 'td3+bc'; did you mean 'TD3+BC'? known: TD3+BC"),
        ("methods", "DWM-TD3-BC", "unknown method 'DWM-TD3-BC'; did you mean 'DWM-TD3BC'? known"),
        ("data__pad", "wrap", '"absorb" or "drop"'),
        ("gamma", 0.0, "discount"),
        ("checkpoint_every", 7, "multiple of updates_per_dispatch = 5"),
        ("policy__num_updates", 21, "multiple of updates_per_dispatch = 5"),
        ("seed", -1, "0 or more"),
        ("seed", 2**32 - 1, "seed + num_seeds at most 4,294,967,296"),  # two seeds: the second would be 0 again
        ("evaluation__seed", -1, "0 or more"),
        ("data__seed", -1, "from 0 to"),
        ("world_models__dwm__seed", 2**32, "from 0 to 4,294,967,295"),
        ("learners__td3_bc__policy_delay", 0, "at least 1"),
        ("learners__td3_bc__hidden", (32, 0), "widths of at least 1"),
        ("learners__td3_bc__learning_rate", float("nan"), "above 0"),
        ("learners__td3_bc__target_rate", 0.0, "in (0, 1]"),
        ("diagnostics__sampling_horizons", (0, 1), "all at least 1"),
        ("diagnostics__sampling_horizons", ("a",), "whole numbers"),
        ("diagnostics__sampling_horizons", (1.5,), "whole numbers"),
        ("learners__td3_bc__hidden", ("a",), "widths of at least 1"),
        ("learners__td3_bc__hidden", (1.5,), "widths of at least 1"),
        ("learners__td3_bc__alpha", float("nan"), "0 or more"),
        ("world_models__dwm__multipliers", (), "whole numbers of at least 1, one a level"),
        ("world_models__dwm__multipliers", (-1,), "whole numbers of at least 1, one a level"),
        ("world_models__dwm__multipliers", (1.5,), "whole numbers of at least 1, one a level"),
        ("world_models__dwm__guidance_weight", -1.0, "0 or more"),
        ("world_models__dwm__condition_dropout", float("nan"), "a finite number"),
        ("policy__return_to_go", float("inf"), "a finite number"),
        ("policy__imagined_pairs", -1, "0 (all) or more"),
        # What jax, or the machine, would find out after the data is made.
        ("policy__batch_size", 10**11, "at most 2,147,483,647"),
        ("policy__num_updates", 5 * 10**10, "at most 2,147,483,647"),
        ("world_models__dwm__batch_size", 2**31, "at most 2,147,483,647"),
        ("world_models__dwm__ema_every", 2**31, "at most 2,147,483,647"),
        ("data__num_steps", 10**11, "at most 2,147,483,647"),
        ("learners__td3_bc__hidden", (2**31,), "widths of at least 1"),
        ("num_seeds", 10**9, "at most 10,000"),
        ("evaluation__episodes", 10**9, "at most 10,000"),
        ("policy__start_share", 0.9999999, "a fraction in [0, 0.95]"),
        ("learners__td3_bc__hidden", (True,), "widths of at least 1"),
        ("num_seeds", True, "a number, not True or False"),
        ("learners__td3_bc__policy_delay", True, "a number, not True or False"),
        ("policy__batch_size", True, "a number, not True or False"),
        ("task", None, "task=None is not allowed: leave it out for its default, 'maze2d-umaze'"),
        ("methods", None, "methods=None is not allowed: leave it out"),
        ("policy__horizon", None, "policy.horizon=None is not allowed: leave it out"),
        ("policy__inferred_share", float("nan"), "policy.inferred_share=nan is not allowed: a number"),  # not used
    ],
)
def test_a_wrong_value_is_refused_with_what_is_allowed(key: str, value: object, allowed: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(allowed)) as refusal:
        check(tiny.config(**{key: value}), num_devices=1)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("world_models__dwm__width", 12),
        ("world_models__dwm__num_updates", 7),
        ("world_models__transformer__batch_size", 0),
        ("learners__iql__expectile", 2.0),
        ("policy__imagined_pairs", 10**9),
        ("policy__pessimism__num_samples", 0),
        ("policy__generated_fraction", 1.0),
        ("policy__relabelling_warm_up", 2.0),
        ("policy__lambda___iql", 2.0),
    ],
)
def test_what_the_methods_do_not_use_is_not_refused(key: str, value: object) -> None:
    config = tiny.config(methods="TD3+BC")
    with config.unlocked():
        config.update_from_flattened_dict({key.replace("lambda___", "lambda_.").replace("__", "."): value})
    check(config, num_devices=1)


def test_a_generator_makes_up_so_many_pairs_and_no_more() -> None:
    check(tiny.config(methods="DA-IQL", policy__generated_fraction=MOST_SHARE), num_devices=1)
    with pytest.raises(ConfigError, match=re.escape("a fraction in [0, 0.95]")):
        check(tiny.config(methods="DA-IQL", policy__generated_fraction=0.96), num_devices=1)


def test_the_last_seeds_are_seeds() -> None:
    check(tiny.config(seed=2**32 - 2, num_seeds=2, data__seed=2**32 - 1), num_devices=1)


def test_what_is_relabelled_keeps_no_pool() -> None:
    config = tiny.config()
    for method, is_kept in ((METHODS["DWM-IQL"], True), (METHODS["DWM-IQL+RTG"], False), (METHODS["DA-IQL"], False)):
        assert is_used("policy.refresh_every", config, [method]) == is_kept


def test_a_generator_and_a_pessimist_from_outside_are_used_as_the_shipped_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    class Cautious(TD3BC):
        pessimistic = True

    monkeypatch.setitem(MODELS, "mine", MODELS["transition_diffusion"])
    monkeypatch.setitem(LEARNERS, "cautious", Cautious)
    config, generating = tiny.config(), Learning("td3_bc", "mine")
    assert is_used("policy.generated_fraction", config, [generating])
    assert not is_used("policy.imagined_per_pair", config, [generating])
    assert is_used("policy.pessimism.num_samples", config, [Learning("cautious", "dwm")])
    # Nothing is imagined for these.
    assert not is_used("policy.pessimism.num_samples", config, [Learning("cautious"), Learning("cautious", "mine")])


@pytest.mark.parametrize(("recipe", "normalizer"), [("paper", "cdf"), ("recommended", "standard")])
def test_a_recipe_reaches_every_model_that_has_its_settings(recipe: str, normalizer: str) -> None:
    config = default_config()
    RECIPES[recipe](config)
    of_states = {
        settings.get("observation_normalizer", settings.get("normalizer")) for settings in config.world_models.values()
    }
    assert of_states == {normalizer, None}


def test_a_recipe_sets_the_sampling_of_a_world_model_from_outside_as_of_dwm(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine(DiffusionWorldModel):
        pass

    monkeypatch.setitem(MODELS, "mine", Mine)
    config = default_config()
    RECIPES["recommended"](config)
    for name in ("num_diffusion_steps", "num_sampling_steps", "guidance_weight", "temperature"):
        assert config.world_models.mine[name] == config.world_models.dwm[name] != getattr(PAPER, name)
    # A planner samples as published.
    assert config.world_models.decision_diffuser.temperature == PAPER.temperature


def test_what_the_attribution_takes_away_is_back_at_the_papers() -> None:
    assert WITHOUT["sampling"]["world_models.dwm.temperature"] == "0.5"
    published, whole = default_config(), default_config()
    RECIPES["paper"](published)
    RECIPES["recommended"](whole)
    for overrides in WITHOUT.values():
        for key, value in overrides.items():
            assert str(value_at(published, key)) == value != str(value_at(whole, key))


def test_a_comma_at_the_end_of_the_methods_names_none() -> None:
    assert list(methods_of(tiny.config(methods="TD3+BC, IQL,"))) == ["TD3+BC", "IQL"] == split_names("TD3+BC, IQL,")


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
