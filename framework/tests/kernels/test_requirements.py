from pathlib import Path

import pytest

from pytest_memtype.errors import KernelError
from pytest_memtype.kernels.requirements import check, settings

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
CONFIG_MODULES=y
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
    checked(tmp_path, GOOD.replace("CONFIG_MODULES=y", ""), module=False)
