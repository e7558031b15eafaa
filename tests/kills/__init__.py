"""Killing the processors at every moment that matters, and proving that nothing of it can be seen.

``python -m tests.kills`` makes the long run; ``tests/test_processors_killed.py`` is the short one.
"""
