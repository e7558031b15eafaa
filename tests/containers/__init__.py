"""What needs a container engine: run by hand, see the README."""
