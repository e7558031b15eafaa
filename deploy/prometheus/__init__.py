"""Prometheus: alerts with their tests; and the page of the metrics, written by ``python -m deploy.prometheus``."""
