"""A QEMU process and its parts: command line, QMP, serial console, boot ROM, layouts."""
