"""How long things may take, in seconds. Every call that waits takes another value as a parameter."""

from __future__ import annotations

from typing import Final

#: From ``cont`` to the agent's first word. Debian's 6.1 cloud kernel needs 2 s under TCG on an idle host.
BOOT: Final = 120.0

#: From ``cont`` to the sshd of a distribution. Debian 12 needs 25 s under TCG on an idle host.
DISTRIBUTION_BOOT: Final = 240.0

#: One command of the agent, one QMP command, one ``expect``.
COMMAND: Final = 60.0

#: Between a request and the first sign of life, and between two of them: a busy agent gives one a second.
HEARTBEAT: Final = 10.0

#: QEMU's own start, up to its QMP greeting. It needs 0.05 s on an idle host.
START: Final = 30.0

#: What a QEMU that is already dying may take to be gone.
EXIT: Final = 5.0
