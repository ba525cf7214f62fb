"""How fast this machine runs the package: `python -m experiments.benchmark`."""
