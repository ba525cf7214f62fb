"""Experiments on dwm_jax: configurations, sweeps, the paper's tables."""

import dwm_jax  # noqa: F401 - before anything that imports matplotlib
