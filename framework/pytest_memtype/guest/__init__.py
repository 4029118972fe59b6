"""What a test talks to: the guest, its drivers, its processes, and the outcomes of what they do."""
