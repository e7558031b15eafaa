"""Schemas of what deploy/kubernetes uses, and the way they were made."""
