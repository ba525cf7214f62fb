"""Exported policies and trained world models, handed to others: what is handed over, its card, and where to."""
