"""The contract shared by the services: shapes, topics, headers, settings, metrics, and how a webhook's body is read.

The services import this package and never each other.
"""
