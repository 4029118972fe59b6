"""A cluster on machines that are reached with SSH. Not run by this project's tests.

Needs `pip install asyncssh` here, and on each machine what docs/cluster.md names, in the same Python. The
certificates are found by Dask's settings, as docs/cluster.md has them.
"""

from __future__ import annotations

import subprocess
import sys

from distributed import SSHCluster

HOSTS = ["first.example", "first.example", "second.example"]  # The scheduler's first.

with SSHCluster(
    HOSTS,
    scheduler_options={"protocol": "tls", "port": 8786, "dashboard": False},
    worker_options={"nthreads": 1, "n_workers": 2, "resources": {"qemu": 1, "memory": 2e9}},
) as cluster:
    command = ["memtype", "run", "--scheduler", cluster.scheduler_address, *sys.argv[1:]]
    sys.exit(subprocess.run(command, check=False).returncode)
