"""Callstream on Kubernetes: Kustomize files, some of them generated from what they must agree with."""
