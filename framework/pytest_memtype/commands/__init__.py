"""The subcommands of ``memtype``, one file each: their options and their output."""
