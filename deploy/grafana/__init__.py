"""Grafana: dashboards as JSON, written by ``python -m deploy.grafana`` and committed; how they are provisioned."""
