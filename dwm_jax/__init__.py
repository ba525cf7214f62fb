"""Diffusion World Model for offline reinforcement learning (arXiv 2402.03570), in JAX and Flax."""

import importlib.util
import os

from dwm_jax import starting

__version__ = "0.3.0"

if starting.is_command():
    starting.prepare()

# A notebook hands its own drawing backend to the commands that its cells start, and matplotlib refuses to be imported
# where that package is not installed. Everything here is drawn into files, which needs no backend at all.
_module, _, _backend = os.environ.get("MPLBACKEND", "").partition("://")
if _module == "module" and importlib.util.find_spec(_backend.split(".")[0]) is None:
    os.environ["MPLBACKEND"] = "agg"
