"""What a command line may name."""

import argparse
from pathlib import Path

import pytest

from dwm_jax.runtime.arguments import local_path, non_empty


@pytest.mark.parametrize("text", ["", " ", "\t"])
def test_an_empty_argument_is_refused(text: str) -> None:
    for read in (non_empty, local_path):
        with pytest.raises(argparse.ArgumentTypeError, match=r"^it is empty; give it a value, or leave it out$"):
            read(text)


def test_a_path_is_a_path_unless_the_shell_has_left_its_tilde_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert local_path("runs/a b") == Path("runs/a b")
    with pytest.raises(argparse.ArgumentTypeError, match=r"^~/runs: the shell has left its ~ as it is; "):
        local_path("~/runs")
