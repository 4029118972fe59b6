"""Serial consoles: kernel log in, reports out. Nothing here knows of QEMU."""
