"""The `aurum` command: one module per subcommand, thin over the library beside it."""
