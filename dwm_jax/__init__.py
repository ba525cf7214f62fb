"""Diffusion World Model for offline reinforcement learning (arXiv 2402.03570), in JAX and Flax."""

__version__ = "0.3.0"
