"""The subcommands of ``memtype``, one file each: their options, and what they print."""
