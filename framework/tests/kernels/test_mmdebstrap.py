import pytest

from pytest_memtype.kernels.mmdebstrap import failure

# Lines as apt 2.6, tar 1.34 and mmdebstrap 1.3.5 print them.
END = "E: mmdebstrap failed to run\n"


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ("  Temporary failure resolving 'mirror.invalid'\n", "can't be reached"),
        (
            "  Could not connect to localhost:9 (127.0.0.1). - connect (111: Connection refused)\n",
            "can't be reached",
        ),
        (
            "E: Failed to fetch x.deb  File has unexpected size (1 != 2). Mirror sync in progress?\n",
            "cut short",
        ),
        ("E: Failed to fetch x.deb  Hash Sum mismatch\n", "cut short"),
        ("E: The repository 'x buzz Release' does not have a Release file.\n", "doesn't carry this suite"),
        ("E: Release file for x/InRelease is expired (invalid since 16d 19h).\n", "out of date"),
        ("W: GPG error: x: The following signatures couldn't be verified: NO_PUBKEY 1\n", "signature"),
        ("E: Version '1' for 'linux-headers-x' was not found\n", "doesn't have all the packages"),
        ("tar: ./usr/lib/cc1: Cannot write: No space left on device\n", "disk is full"),
        ("E: You don't have enough free space in /var/cache/apt/archives/.\n", "disk is full"),
        ("E: something never seen before\n", "its last lines follow"),
    ],
)
def test_a_failure_is_told_in_one_line_with_the_output_below(
    output: str, told: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    error = failure(
        output + END, status=25, what="kernel 6.1.0-56-cloud-amd64", cache=tmp_path_factory.getbasetemp()
    )
    assert told in error.message
    assert "\n" not in error.message
    assert error.details == (output.rstrip("\n"), END.rstrip("\n"))


def test_a_failure_without_a_word_promises_none(tmp_path_factory: pytest.TempPathFactory) -> None:
    error = failure("", status=-15, what="kernel x", cache=tmp_path_factory.getbasetemp())
    assert error.message == "kernel x: mmdebstrap was killed by SIGTERM; it printed nothing"
    assert error.details == ()
