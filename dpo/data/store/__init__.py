"""Tokenized pairs on disk: prepared once, read by every worker without loading them all."""
