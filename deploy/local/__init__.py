"""Callstream on one machine: a real broker as a child process, and the services beside it."""
