"""How the views' tables came to be what they are: one file per schema, run in order at start by migrating.py."""
