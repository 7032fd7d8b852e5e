"""Measurements: each a command that ends with one line of JSON; results lie in results/."""
