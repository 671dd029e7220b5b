"""Which rows of the stored pairs are used: pure functions over columns. They return row numbers, never pairs."""
