"""The tests: pure ones, ASGI ones, and those on a real Kafka, a real PostgreSQL and a real browser."""
