"""conf/*.yaml and the command line -> one checked RunConfig."""
