"""The poller: asks a PBX which calls are active, as was done before webhooks; its own process, off by default.

``python -m ingest poll``: config (what is polled, changed without a restart), xapi (the PBX's API), answers (which
answers are evidence; pure), poller (one PBX, its lease and its record), app.
"""
