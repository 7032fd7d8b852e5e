"""Offline: corpus to checkpoint folder. Imports ``model``, never ``app``."""
