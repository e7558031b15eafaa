"""Bugs as patches, each with the run that finds it: a proof that the suite and the judge see what they must.

The second line of a patch names that run: a test, or a command of ours (``python -m tests.…``). The patches in this
folder are bugs of pairing; those in ``services/`` are bugs of ingest, processors and projections.
"""
