from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from pytest_memtype import Guest, MemType
from pytest_memtype.errors import GuestError, GuestExited, GuestHung, UsageError

REFUSES = """
#include <linux/module.h>
#include <linux/platform_device.h>

static int refuses_probe(struct platform_device *device)
{
	return 0;
}

static int refuses_suspend(struct device *device)
{
	return -EBUSY;
}

static const struct dev_pm_ops refuses_pm = { .suspend = refuses_suspend };
static struct platform_driver refuses_driver = {
	.probe = refuses_probe,
	.driver = { .name = "refuses", .pm = &refuses_pm },
};
static struct platform_device *refuses_device;

static int __init refuses_init(void)
{
	int error = platform_driver_register(&refuses_driver);

	if (error)
		return error;
	refuses_device = platform_device_register_simple("refuses", -1, NULL, 0);
	return PTR_ERR_OR_ZERO(refuses_device);
}
module_init(refuses_init);

static void __exit refuses_exit(void)
{
	platform_device_unregister(refuses_device);
	platform_driver_unregister(&refuses_driver);
}
module_exit(refuses_exit);
MODULE_LICENSE("GPL");
"""


@pytest.mark.needs_config("SUSPEND")
def test_a_guest_that_dies_in_its_sleep_is_not_waited_for(guest: Guest) -> None:
    """Longer than pytest lets a test run, the guest would sleep."""
    ended = threading.Event()

    def kill() -> None:
        while not ended.wait(0.05):
            if any(each["event"] == "SUSPEND" for each in guest.qmp.events):
                os.kill(guest.machine.process.pid, signal.SIGKILL)
                return

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        with pytest.raises(GuestExited):
            guest.suspend(seconds=600)
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize("seconds", [-1.0, 601.0, float("nan")])
def test_how_long_a_guest_may_sleep(guest: Guest, seconds: float) -> None:
    with pytest.raises(UsageError, match="0 to 600 are possible"):
        guest.suspend(seconds=seconds)


@pytest.mark.needs_config("SUSPEND")
def test_a_driver_that_refuses_is_an_error_at_once(guest: Guest, tmp_path: Path) -> None:
    """No event of QEMU's comes then, and the guest lives."""
    file = tmp_path / "refuses.c"
    file.write_text(REFUSES)
    driver = guest.load(file)
    with pytest.raises(GuestError, match=r"the guest refused to be suspended with status 1: .") as error:
        guest.suspend()
    assert not isinstance(error.value, GuestHung)
    # The kernel's own words name who refused.
    assert any("refuses" in line and "-16" in line for line in error.value.details)
    assert guest.journal.entries[-1]["result"] == "1"
    assert guest.driver("drm").ioremap(guest.mmio(pages=1), MemType.WC).accepted
    driver.unload()
    guest.suspend()
    assert guest.journal.entries[-1]["result"] == "0"
