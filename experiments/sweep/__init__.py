"""Running the studies: what there is to run, and who runs it. `python -m experiments.sweep --help`."""
