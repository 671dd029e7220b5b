"""`Pair` -> `TokenizedPair`: chat templates, tokens, which of them are scored, and limits."""
