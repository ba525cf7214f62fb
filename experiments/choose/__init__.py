"""Choosing among finished policies, and a world model's settings, without the simulator."""
