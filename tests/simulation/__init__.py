"""Whole call centres from a seed, and a plain reference of the pairing that the real core must equal event by event."""
