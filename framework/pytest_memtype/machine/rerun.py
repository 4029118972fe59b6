"""The script that boots a guest of a test again, by hand."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from pathlib import Path

from pytest_memtype.machine.qemu_command import QemuConfig, rerun_command


def write_rerun(guest: QemuConfig, folder: Path) -> str:
    """Write ``rerun.sh``, and beside it the boot ROM that it needs.

    A clone's ROM lies with its template, which may be removed.

    :param guest: The configuration that the guest was started with.
    :param folder: The folder of the guest's logs.
    :returns: The script's path, as text; where it can't be written, the command that it would have run.
    """
    with contextlib.suppress(OSError):
        rom = folder / "boot-rom.bin"
        if guest.boot_rom is not None and guest.boot_rom != rom:
            # A ROM that is gone is no reason to write no script.
            with contextlib.suppress(OSError):
                shutil.copyfile(guest.boot_rom, rom)
                guest = dataclasses.replace(guest, boot_rom=rom)
        script = folder / "rerun.sh"
        text = "#!/bin/sh\n# Boots the same guest, with a shell on its console. Ctrl-A X ends QEMU.\n"
        # The names of files are any bytes.
        script.write_bytes(os.fsencode(f'{text}exec {rerun_command(guest)} "$@"\n'))
        script.chmod(0o755)
        return str(script)
    return rerun_command(guest)
