"""Configurations: each starts from `dwm_jax.config.default_config()` and overrides a little."""
