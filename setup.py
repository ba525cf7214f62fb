"""The packages of a wheel: `experiments/` goes in as `dwm_jax.experiments`, where no other `experiments` can be."""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["dwm_jax", "dwm_jax.*"]),
        *(f"dwm_jax.{name}" for name in find_packages(include=["experiments", "experiments.*"])),
    ],
    package_dir={"dwm_jax.experiments": "experiments"},
)
