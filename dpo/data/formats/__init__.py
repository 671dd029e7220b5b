"""Rows -> `Pair`: the shapes of preference data, recognised by their columns."""
