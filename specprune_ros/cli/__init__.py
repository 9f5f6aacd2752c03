"""The `specprune` command: one file a subcommand, and the options that they share."""
