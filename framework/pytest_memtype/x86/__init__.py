"""Facts of the x86 architecture as pure functions: memory types, PAT, MTRRs, page-table entries."""
