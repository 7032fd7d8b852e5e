"""HTTP in, JSON out: the service. Imports ``model``, never ``training``."""
