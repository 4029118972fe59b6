"""Objects that a test works with: the guest, its drivers and processes, the outcomes of their operations."""
