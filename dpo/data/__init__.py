"""From files to token ids: rows -> `Pair` -> `TokenizedPair` -> groups and batches."""
