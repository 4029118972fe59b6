"""The connection to a Dask scheduler: whom it may be made with, and a client that unpickles nothing.

Dask's scheduler unpickles what any peer sends (dask/distributed#9283), so the peers are the boundary: on
loopback this machine's users, elsewhere those with a certificate. Behind it are the tests, whose answers are
no more trusted than what their guests say. distributed would unpickle them in three places: results whose
serialiser is "pickle" or "dask" (which pickles the type), exceptions (``clean_exception()``), and the names
of results' types (2026.8). The client here takes msgpack alone, and leaves the other two.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import cloudpickle
import dask
from distributed import Client, Future, LocalCluster, Security

from pytest_memtype.cluster import bootstrap, openssl_errors
from pytest_memtype.cluster.answer import LARGEST
from pytest_memtype.cluster.preflight import ROOT
from pytest_memtype.errors import AnswerLost, AnswerRefused, HostError, UsageError, reason
from pytest_memtype.host.files import read_small
from pytest_memtype.host.memory import available_memory
from pytest_memtype.host.private_folder import temporary_folder
from pytest_memtype.run.options import LOCAL

_INSECURE: Final = (
    "Dask runs what any peer sends, so another machine's scheduler needs tls:// with certificates on both "
    "sides (docs/cluster.md), or --insecure-scheduler in a lab"
)

_GATHERED: Final = 64
"""Results that are fetched at once, of :data:`LARGEST` bytes together: the scheduler holds all of them."""

_TOLD_SECONDS: Final = 300.0
"""Seconds for what the scheduler knows by itself."""

_GATHER_SECONDS: Final = 300.0
"""Seconds for results to come: a worker that stands still has the scheduler wait."""

_QUIET: Final = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "10s",
}
"""Settings for workers beside which guests are to have this machine's cores. By default each of a local
cluster's processes looks about so often that it takes 2 % of a core by itself (2026.8); with these it is a
quarter of that."""

_LOST: Final = (CancelledError, OSError, RuntimeError, ValueError, KeyError)

# Neither the scheduler nor the workers have this package, or have it in this version.
cloudpickle.register_pickle_by_value(bootstrap)


class ByValue:
    """A function for ``submit()`` that travels with its code, and is the function itself when it has arrived.

    distributed pickles the task around a function, and so doesn't see that its module is to go by value
    (2026.8).

    :param function: The function.
    """

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function

    def __call__(self, *arguments: object) -> object:
        return self._function(*arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return cloudpickle.loads, (cloudpickle.dumps(self._function),)


# distributed has no types that mypy could check a subclass against.
class CarefulClient(Client):  # type: ignore[misc]
    """A client of Dask that unpickles nothing that a task has answered or raised."""

    def _handle_task_erred(self, key: Any = None, exception: Any = None, traceback: Any = None) -> None:
        # A text isn't unpickled. This package's tasks raise nothing: either the worker died under the task
        # several times, or the task is somebody else's.
        name = "KilledWorker" if b"KilledWorker" in bytes(exception or b"")[:4096] else "an exception"
        super()._handle_task_erred(key, name, None)

    def _handle_key_in_memory(self, key: Any = None, type: Any = None, workers: Any = None) -> None:
        super()._handle_key_in_memory(key, None, workers)

    def known_workers(self) -> dict[str, dict[str, Any]]:
        """The facts that the scheduler has of each of its workers, by address.

        :raises OSError: it doesn't answer just now.
        :raises HostError: it hasn't answered for minutes.
        """
        # Not scheduler_info(), which returns what the client has noted last: by itself it looks each 2 s, at
        # none of the workers (2026.8; at five in 2025.4), and what it notes can come in between.
        return dict(self._told(self.scheduler.identity)["workers"])

    def _told(self, question: Callable[..., object], **arguments: object) -> Any:
        """An answer of the scheduler that takes it but a moment.

        :param question: One of its operations.
        :param **arguments: Arguments of it.
        :raises HostError: it hasn't answered for minutes: one that stands still keeps its connections.
        """
        try:
            return self.sync(question, callback_timeout=_TOLD_SECONDS, **arguments)
        except TimeoutError:
            raise HostError(f"the scheduler hasn't answered for {_TOLD_SECONDS:.0f} s") from None

    def answers(self, futures: Sequence[Future]) -> Iterator[tuple[Future, object]]:
        """The results of tasks that have finished, each with its future, in bounded parts.

        In place of a result that can't be had stands the error: :class:`AnswerRefused` where it is too large,
        or something else than msgpack can hold, :class:`AnswerLost` where its worker died with it.

        :param futures: The tasks.
        :raises HostError: the scheduler hasn't answered for minutes.
        """
        part: list[Future] = []
        room = LARGEST
        for future, size in self._sizes(futures):
            if isinstance(size, Exception):
                yield future, size
                continue
            if part and (len(part) == _GATHERED or size > room):
                yield from self._gathered(part)
                part, room = [], LARGEST
            part.append(future)
            room -= size
        if part:
            # A client that has lost its scheduler can't even gather nothing.
            yield from self._gathered(part)

    def _sizes(self, futures: Sequence[Future]) -> Iterator[tuple[Future, int | Exception]]:
        """The bytes of each task's result, or why it isn't taken: nothing of it has travelled so far."""
        ended = []
        for future in futures:
            status = future.status
            if status == "finished":
                ended.append(future)
            elif status == "error":
                yield future, AnswerRefused(f"its task ended with {future.exception()}")
            else:
                # Cancelled, or it is to be computed anew: its worker is gone.
                yield future, AnswerLost(f"its task is {status}")
        try:
            keys = [future.key for future in ended]
            sizes = self._told(self.scheduler.nbytes, keys=keys, summary=False) if ended else {}
        except _LOST as error:
            # The scheduler doesn't tell for which of them that is.
            if len(ended) == 1:
                yield ended[0], AnswerLost(str(error))
            else:
                for future in ended:
                    yield from self._sizes([future])
            return
        for future in ended:
            size = max(0, sizes.get(future.key, 0))
            too_large = AnswerRefused(f"it has {size >> 20} MiB; {LARGEST >> 20} are allowed")
            yield future, too_large if size > LARGEST else size

    def _gathered(self, part: Sequence[Future]) -> Iterator[tuple[Future, object]]:
        try:
            yield from zip(part, self._results([future.key for future in part]), strict=True)
        except (TypeError, *_LOST) as error:
            # Whoever it was that gave no answer: if it was the scheduler, that ends the run here.
            if isinstance(error, TimeoutError):
                self.known_workers()
            # One of them spoils the gathering of all.
            if len(part) > 1:
                for future in part:
                    yield from self._gathered([future])
            elif isinstance(error, TypeError):
                yield part[0], AnswerRefused(f"it is no bytes ({' '.join(str(error).split())[:200]})")
            else:
                yield part[0], AnswerLost(str(error))

    def _results(self, keys: list[Any]) -> list[object]:
        """The results of tasks that have finished, from the scheduler, which has them from the workers.

        Not gather(), which waits until somebody has computed anew what a worker took along when it died
        (2025.4 to 2026.8): this run's next tasks would wait for it, and it for a worker that they prepare.

        :param keys: The tasks' keys.
        :raises OSError: a worker doesn't answer in time.
        :raises ValueError: one of the results isn't there any more.
        """
        found = self.sync(self.scheduler.gather, keys=keys, callback_timeout=_GATHER_SECONDS)
        if found["status"] != "OK":
            raise ValueError("its worker is gone, and the answer with it")
        return [found["data"][key] for key in keys]


def checked_address(given: str, *, insecure: bool) -> str:
    """The address of a scheduler that may be connected to.

    :param given: The address, or the path of a scheduler file.
    :param insecure: The user takes another machine's scheduler without TLS.
    :raises UsageError: it is no address, or one that needs TLS and has none.
    """
    address = given if "://" in given else _of_file(Path(given))
    parts = urlsplit(address)
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme not in ("tcp", "tls") or not parts.hostname or port is None:
        raise UsageError(
            f"--scheduler {given!r}: not an address; write tcp://HOST:PORT, tls://HOST:PORT, the path of a "
            f"scheduler file, or {LOCAL}"
        )
    if parts.scheme == "tcp" and not insecure and not _is_loopback(parts.hostname):
        raise UsageError(f"--scheduler {address}: {_INSECURE}")
    return address


def is_secure(given: str) -> bool:
    """Whether an address needs no ``--insecure-scheduler``."""
    with contextlib.suppress(UsageError):
        return given == LOCAL or bool(checked_address(given, insecure=False))
    return False


def _of_file(path: Path) -> str:
    try:
        return str(json.loads(read_small(path, most=1 << 20))["address"])
    except OSError as error:
        raise UsageError(
            f"--scheduler {path}: {error.strerror or reason(error)}; name a scheduler file, an address such "
            f"as tls://HOST:8786, or {LOCAL}"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"--scheduler {path}: not a scheduler file, which names an address") from None


def _is_loopback(host: str) -> bool:
    try:
        found = {each[4][0] for each in socket.getaddrinfo(host, None)}
    except OSError:
        raise UsageError(f"--scheduler: there is no host {host!r}") from None
    return all(ipaddress.ip_address(str(each).partition("%")[0]).is_loopback for each in found)


@contextlib.contextmanager
def connected(given: str, *, insecure: bool, workers: int, memory: int = 0) -> Iterator[CarefulClient]:
    """A client of the scheduler; with ``local`` of one that is started for the block.

    :param given: The address, a scheduler file, or ``local``.
    :param insecure: The user takes another machine's scheduler without TLS.
    :param workers: Number of workers of a local cluster, at most.
    :param memory: Bytes that the largest of its tasks takes: it has no more workers than have that each.
    :raises UsageError: the address can't be used, or no certificates are set up.
    :raises HostError: nobody answers there.
    """
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    openssl_errors.install()
    settings: dict[str, object] = {"distributed.admin.large-graph-warning-threshold": "1GB"}
    if given == LOCAL:
        settings |= {f"distributed.{each}.preload": [openssl_errors.__name__] for each in ("nanny", "worker")}
        settings |= _QUIET
    with dask.config.set(settings), contextlib.ExitStack() as ends:
        security: Security | None
        if given == LOCAL:
            address, security = ends.enter_context(_local(workers, memory))
        else:
            address = checked_address(given, insecure=insecure)
            security = _security(address)
        try:
            client = CarefulClient(
                address,
                security=security,
                set_as_default=False,
                deserializers=["msgpack", "error"],
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise HostError(
                f"--scheduler {address}: no answer ({' '.join(str(error).split())[:200]}); is a Dask "
                "scheduler of the same version running there, and are the certificates of one authority?"
            ) from None
        ends.callback(client.close, timeout=5)
        yield client


def _security(address: str) -> Security | None:
    if not address.startswith("tls://"):
        return None
    # As Dask's documentation has it: distributed.comm.tls in its configuration, or in the environment.
    security = Security(require_encryption=True)
    needed = {"ca-file": security.tls_ca_file, "client.cert": security.tls_client_cert}
    for name, value in needed.items():
        if not value:
            raise UsageError(
                f"--scheduler {address}: Dask's setting distributed.comm.tls.{name} names no certificate; "
                "see docs/cluster.md"
            )
        if "\n" not in value and not Path(value).is_file():
            raise UsageError(f"--scheduler {address}: distributed.comm.tls.{name}: there is no file {value}")
    return security


@contextlib.contextmanager
def _local(most: int, memory: int) -> Iterator[tuple[str, Security]]:
    # Any user of this machine can reach a port of loopback: the certificates keep others out.
    security = Security.temporary()
    available = available_memory()
    # A worker that declares less than a task takes never gets it.
    workers = max(1, min(most, available // memory)) if memory else most
    own: dict[str, float] = {"qemu": 1, "memory": available // workers}
    if os.access("/dev/kvm", os.R_OK | os.W_OK):
        own["kvm"] = 1
    with (
        # Any of them could read there what the tasks are, too, which asks for no certificate.
        dask.config.set({f"distributed.{each}.http.routes": [] for each in ("scheduler", "worker")}),
        temporary_folder("dask") as place,
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            host="127.0.0.1",
            security=security,
            dashboard_address=None,
            worker_dashboard_address=None,
            # A dashboard or not, Dask has a web server (2026.8).
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
            local_directory=str(place),
            resources=own,
            # It would pause a worker for what other programs take.
            memory_limit=0,
            silence_logs=logging.CRITICAL,
            # A user who is root here is root without a cluster, too.
            env={ROOT: "1"},
        ) as cluster,
    ):
        yield cluster.scheduler_address, security
