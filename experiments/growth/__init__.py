"""How cost grows: with data, seeds, T, width, ensemble members, runs of a sweep, devices; and predictions from it."""
