"""Serial consoles: kernel log in, reports out. It knows nothing of QEMU."""
