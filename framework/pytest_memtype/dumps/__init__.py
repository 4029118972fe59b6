"""Texts that machines print about memory types, read into facts. It knows nothing of QEMU."""
