"""A world model that is finished is found by whoever wants it, and nothing is made where it is not."""

from pathlib import Path

import jax
import numpy as np

from dwm_jax.phases.pretraining import pretrained
from dwm_jax.workdir import load_recording
from tests import tiny


def test_a_finished_model_is_found_without_training_and_another_one_is_not_made(tmp_path: Path) -> None:
    config = tiny.config(methods="OneStep")
    run = tiny.run_of(config, load_recording(config)[1], tmp_path / "run")
    assert pretrained(run, "one_step") is None
    assert not list(tmp_path.iterdir())
    trained = tiny.pretrain("one_step", config, run.recording, tmp_path / "run")
    found = pretrained(run, "one_step")
    assert found is not None
    for leaf, expected in zip(jax.tree.leaves(found.state), jax.tree.leaves(trained.state), strict=True):
        np.testing.assert_array_equal(leaf, expected)
    folders = set(tmp_path.glob("world_models/*"))
    other = tiny.config(methods="OneStep", world_models__one_step__seed=5)
    assert pretrained(run._replace(config=other), "one_step") is None
    assert set(tmp_path.glob("world_models/*")) == folders
