"""The projections: call sessions in, two views out (agent status, call log), by API, event stream and page."""
