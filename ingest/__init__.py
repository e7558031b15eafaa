"""Ingest, the door: a webhook is authenticated, made durable, answered 202, and then forwarded to Kafka in order."""
