"""One QEMU process: command line, QMP, serial console, boot ROM, layouts."""
