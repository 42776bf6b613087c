"""The subcommands of `charpy study`, one a file."""
