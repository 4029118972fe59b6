import pytest

from pytest_memtype.errors import UsageError
from pytest_memtype.host.nearest import check_choice, did_you_mean, unknown


@pytest.mark.parametrize(
    ("word", "known", "end"),
    [
        ("wb-devise", ["wb-device", "firmware"], "; did you mean 'wb-device'?"),
        ("WB-DEVICE", ["wb-device", "firmware"], "; did you mean 'wb-device'?"),
        ("all-reg", ["all-registers-used", "firmware"], "; did you mean 'all-registers-used'?"),
        ("kvm", [], ""),
        ("windows", ["firmware"], ""),
        ("", ["firmware"], ""),
    ],
)
def test_what_was_meant(word: str, known: list[str], end: str) -> None:
    assert did_you_mean(word, known) == end


def test_all_there_are_come_behind_the_nearest() -> None:
    assert unknown("tgc", ["kvm", "tcg"]) == "; did you mean 'tcg'? known are kvm, tcg"
    assert unknown("xen", ["kvm", "tcg"]) == "; known are kvm, tcg"


def test_a_choice() -> None:
    check_choice("--accel", "tcg", ("kvm", "tcg"))
    with pytest.raises(UsageError, match=r"^--accel 'tgc': there is no such choice; did you mean 'tcg'\?"):
        check_choice("--accel", "tgc", ("kvm", "tcg"))
