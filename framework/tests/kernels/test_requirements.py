from pathlib import Path

import pytest

from pytest_memtype.errors import KernelError
from pytest_memtype.kernels.requirements import (
    LOST,
    check,
    lacking,
    missing,
    of_hardware,
    refuses_module,
    settings,
)

GOOD = """\
# Linux/x86 6.1.176 Kernel Configuration
CONFIG_CC_VERSION_TEXT="gcc-12 (Debian 12.2.0-14) 12.2.0"
CONFIG_X86_64=y
CONFIG_BLK_DEV_INITRD=y
CONFIG_DEVTMPFS=y
CONFIG_PROC_FS=y
CONFIG_SYSFS=y
CONFIG_PCI=y
CONFIG_SERIAL_8250_CONSOLE=y
CONFIG_BINFMT_ELF=y
CONFIG_PRINTK=y
CONFIG_FILE_LOCKING=y
CONFIG_NET=y
CONFIG_UNIX=y
CONFIG_MODULES=y
CONFIG_STACKTRACE=y
# CONFIG_MODULE_SIG_FORCE is not set
"""


def test_settings() -> None:
    assert settings(GOOD)["CC_VERSION_TEXT"] == "gcc-12 (Debian 12.2.0-14) 12.2.0"
    assert "MODULE_SIG_FORCE" not in settings(GOOD)


def checked(tmp_path: Path, text: str, *, module: bool = True) -> None:
    (tmp_path / ".config").write_text(text)
    check(tmp_path / ".config", what="kernel 'tree:x'", module=module)


def test_a_kernel_that_can_be_a_guest(tmp_path: Path) -> None:
    checked(tmp_path, GOOD)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("CONFIG_MODULES=y", "# CONFIG_MODULES is not set", "lacks CONFIG_MODULES=y (half of the agent is"),
        ("CONFIG_SERIAL_8250_CONSOLE=y", "", "lacks CONFIG_SERIAL_8250_CONSOLE=y (the host talks"),
        ("CONFIG_STACKTRACE=y", "", "lacks CONFIG_STACKTRACE=y (the module asks who maps, and doesn't"),
        ("CONFIG_FILE_LOCKING=y", "", "lacks CONFIG_FILE_LOCKING=y (the agent locks a file"),
        # As a module it would come too late.
        ("CONFIG_PCI=y", "CONFIG_PCI=m", "lacks CONFIG_PCI=y"),
        ("# CONFIG_MODULE_SIG_FORCE is not set", "CONFIG_MODULE_SIG_FORCE=y", "makes it refuse the guest's"),
    ],
)
def test_a_kernel_that_can_not(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(KernelError) as caught:
        checked(tmp_path, GOOD.replace(old, new))
    assert caught.value.message.startswith("kernel 'tree:x': ")
    assert message in caught.value.message
    assert "\n" not in caught.value.message


def test_without_the_module_modules_may_be_off(tmp_path: Path) -> None:
    text = GOOD.replace("CONFIG_MODULES=y", "").replace("CONFIG_STACKTRACE=y", "")
    checked(tmp_path, text, module=False)


def test_what_hardware_needs() -> None:
    assert of_hardware(cpus=1, firmware="seabios") == ()
    assert of_hardware(cpus=2, firmware="ovmf") == ("SMP", "ACPI", "EFI")


def test_options_that_are_off(tmp_path: Path) -> None:
    (tmp_path / ".config").write_text("CONFIG_SMP=y\nCONFIG_EFI=m\n# CONFIG_ACPI is not set\n")
    assert lacking(("SMP", "ACPI", "EFI"), tmp_path / ".config") == ["ACPI", "EFI"]


FRAGMENT = Path(__file__).parents[3] / "kernels" / "config" / "memtype.config"


def test_the_fragment_has_all_that_is_needed_and_looked_at() -> None:
    """x86_64 is what CONFIG_64BIT makes of it."""
    text = FRAGMENT.read_text()
    given = settings(text)
    assert missing(given | {"X86_64": given["64BIT"]}, module=True) == {}
    assert [name for name in LOST if given.get(name) != "y"] == []
    assert not refuses_module(given)
