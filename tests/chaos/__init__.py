"""Everything fails, the numbers stay right: a whole system under faults, and one verdict of six lines.

``python -m tests.chaos`` (``make chaos``) makes a run of any length; ``tests/test_chaos.py`` is the short one. A run
has a seed, a plan of faults, a ledger of every request and answer, and a log; a red one keeps its evidence.
"""
