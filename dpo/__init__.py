"""A distributed trainer for Direct Preference Optimization that computes every prompt once."""

__version__ = "0.1.0"
