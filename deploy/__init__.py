"""Running Callstream: the local broker and supervisor (`deploy.local`) and the files of real deployments."""
