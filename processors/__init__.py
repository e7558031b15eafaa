"""The processors: raw webhooks in, call sessions out, exactly once."""
