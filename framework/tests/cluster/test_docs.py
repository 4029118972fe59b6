"""The commands of docs/cluster.md, on loopback: certificates, settings, scheduler, worker and a run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from memtype_support.dask_cluster import DaskCluster

PAGE = Path(__file__).parents[3] / "docs/cluster.md"
BIN = Path(sys.executable).parent


def _commands(name: str) -> str:
    marker = re.escape(f"<!-- executed by framework/tests/cluster/test_docs.py: {name} -->")
    found = re.search(f"{marker}\n```\n(.*?)```", PAGE.read_text(), re.S)
    assert found is not None, f"{PAGE}: no commands called {name}"
    return found[1]


def test_a_cluster_by_the_docs(tmp_path: Path, unused_port: int) -> None:
    place = tmp_path / "place"
    place.mkdir()
    script = f"set -eu\n{_commands('certificates')}\n{_commands('settings')}\nenv"
    made = subprocess.run(
        ["sh", "-c", script], cwd=place, capture_output=True, text=True, check=True, timeout=60
    )
    settings = dict(line.split("=", 1) for line in made.stdout.splitlines() if line.startswith("DASK_"))
    assert len(settings) == 10

    def command(name: str) -> list[str]:
        return shlex.split(_commands(name).replace("HOST", "127.0.0.1").replace("8786", str(unused_port)))

    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "test_plain.py").write_text("def test_a(): pass\n")
    run = [str(BIN / command("run")[0]), *command("run")[1:], "test_plain.py"]
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    cluster = DaskCluster(tmp_path)
    try:
        for name in ("scheduler", "worker"):
            program, *rest = command(name)
            assert program == "dask"
            cluster.start(name, rest, {**settings, "MEMTYPE_WORKER_ROOT": "1"})
        done = subprocess.run(
            run,
            cwd=tests,
            env={**environment, **settings},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "1 passed" in done.stdout
        # Whoever reaches the web server, which asks for none, sees nothing.
        with pytest.raises(HTTPError, match="404"):
            urlopen(f"http://127.0.0.1:{_port_of_web_server(cluster)}/json/identity.json", timeout=30)
        # Somebody without a certificate is turned away, whatever he says.
        plain = [each.replace("tls://", "tcp://") for each in run]
        refused = subprocess.run(
            plain,
            cwd=tests,
            env={**environment, "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "3s"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert refused.returncode == 3
        assert "no answer" in refused.stdout + refused.stderr
    finally:
        cluster.close()


def _port_of_web_server(cluster: DaskCluster) -> int:
    log = (cluster.place / "scheduler.log").read_text()
    found = re.search(r"dashboard at:\s+http://[\d.]+:(\d+)", log)
    assert found is not None, log
    return int(found[1])


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        return int(line.getsockname()[1])
