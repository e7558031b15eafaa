"""What is published about the topics: JSON Schemas and an AsyncAPI document, from the shapes, in numbered versions.

``python -m events.schemas`` writes them. Each version stands in ``versions/NUMBER`` and is never changed afterwards,
but for its descriptions; a new one is compatible with every earlier one, both ways (see `compatibility`).
"""
