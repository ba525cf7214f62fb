"""The devices that jax finds, or does not."""

import jax
import pytest

from dwm_jax.runtime import cluster


def test_the_devices_here_are_found() -> None:
    assert cluster.find_devices() == ("cpu", len(jax.local_devices()))


@pytest.mark.parametrize(
    ("asked", "error", "says"),
    [
        ("cuda", AssertionError(), "no device here; JAX_PLATFORMS=cuda asks for it: unset it, or install"),
        ("nonsense", RuntimeError("Unable to initialize backend"), "JAX_PLATFORMS=nonsense asks for it: unset it"),
        (None, RuntimeError("Unable to initialize backend"), "no device here; Unable to initialize backend"),
    ],
)
def test_where_jax_has_no_device_one_line_says_why(
    asked: str | None, error: Exception, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def backend() -> str:
        raise error

    monkeypatch.setattr(jax, "default_backend", backend)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    if asked:
        monkeypatch.setenv("JAX_PLATFORMS", asked)
    with pytest.raises(cluster.ClusterError) as refusal:
        cluster.find_devices()
    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)
