"""Experiments on dwm_jax: configurations, sweeps, the paper's tables."""
