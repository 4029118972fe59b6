"""Versions of mailers and of git are no kernel's."""

from __future__ import annotations

import pytest

from pytest_memtype.dumps.read import read

LINE = "x86/PAT: test:178 freeing invalid memtype [mem 0xfd000000-0xfd001fff]"


@pytest.mark.parametrize(
    "header",
    [
        "User-Agent: Evolution 3.44.4 (3.44.4-3.fc36)",
        "User-Agent: Evolution 3.38.3-1+deb11u1",
        "X-Mailer: Evolution 2.32.3 (2.32.3-1.fc14)",
        "User-Agent: KMail/4.9.5 (Linux/3.7.10-1.1-desktop; KDE/4.9.5; x86_64; ; )",
        "> User-Agent: quilt/0.66\n> X-Mailer: Evolution 3.38.1-1",
        "Received: from box by kernel.example\n\twith ESMTPS (running on 4.94.2)",
        # A trailer of a patch, which says where it is to be backported to.
        "Cc: <stable@vger.kernel.org> # v2.6.32",
    ],
)
def test_a_header_names_no_kernel(header: str) -> None:
    assert read(f"{header}\n\n{LINE}\n").kernel is None


@pytest.mark.parametrize(
    "signature",
    [
        # LKML-email-pure-viewer#38: git format-patch of a patch to ioremap.c.
        "-- \n2.11.0",
        "-- \n2.6.4",
        "--\n2.17.0.windows.1",
        "> -- \n> 2.39.5 (Apple Git-154)",
        "-- \nJoe Doe\nrunning 2.6.32 since 2010",
        # The archive has lost the dashes.
        "2.6.32",
    ],
)
def test_a_signature_names_no_kernel(signature: str) -> None:
    assert read(f"{LINE}\n{signature}\n").kernel is None


@pytest.mark.parametrize("words", ["Seen on 2.45.2.", "v3.20.1", "kernel 4.21.3", "with 5.20.1, too"])
def test_a_series_that_never_was(words: str) -> None:
    assert not read(f"{LINE}\n{words}\n").kernels


@pytest.mark.parametrize(
    ("text", "release"),
    [
        (f"From: A\nTo: B\n\nSeen on 6.1.90.\n{LINE}\n", "6.1.90"),
        (f"{LINE}\n\n-- \nJoe\n\nSeen on 6.1.90.\n", "6.1.90"),
        (f"Subject: kernel 5.10.20: freeing invalid memtype\n\n{LINE}\n", "5.10.20"),
        (f"--\n[    0.000000] Linux version 6.1.90 (a@b) #1\n[    1.000000] {LINE}\n", "6.1.90"),
    ],
)
def test_the_writers_words_stay(text: str, release: str) -> None:
    kernel = read(text).kernel
    assert kernel is not None
    assert kernel.release == release
