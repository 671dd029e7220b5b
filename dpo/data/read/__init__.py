"""Rows from files and the hub, each with the place it stands."""
