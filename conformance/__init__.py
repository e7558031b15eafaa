"""A conformance kit for whoever consumes ``threecx.call-sessions``: a stream with faults, and a judge of what came out.

``python -m conformance``; see docs/consuming.md.
"""
