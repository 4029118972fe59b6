import dataclasses
import itertools
import shlex
from pathlib import Path

import pytest

from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.qemu_command import Channels, QemuConfig, qemu_command, rerun_command

CHANNELS = Channels(
    control_fd=7,
    console=Path("/run/a,b/console"),
    agent=Path("/run/a,b/agent"),
    console_log=Path("/logs/console.log"),
    agent_log=Path("/logs/agent.log"),
)
KERNEL = QemuConfig(kernel=Path("/boot/vmlinuz"), initrd=Path("/boot/initrd"), boot_rom=Path("/logs/a b.bin"))


def values(command: list[str], option: str) -> list[str]:
    return [value for name, value in itertools.pairwise(command) if name == option]


def test_paused_at_start_and_gone_after_a_reset() -> None:
    assert {"-S", "-no-reboot", "-nodefaults", "-no-user-config"} <= set(qemu_command(KERNEL, CHANNELS))


def test_console_is_first_port_and_agent_second() -> None:
    assert values(qemu_command(KERNEL, CHANNELS), "-serial") == ["chardev:console", "chardev:agent"]


def test_comma_in_path() -> None:
    # QEMU's manual, "-chardev" and "-drive": a comma in a value is written twice.
    chardevs = values(qemu_command(KERNEL, CHANNELS), "-chardev")
    assert "pipe,id=console,path=/run/a,,b/console,logfile=/logs/console.log,logappend=on" in chardevs
    guest = QemuConfig(ram_file=Path("/run/a,b/ram"))
    assert values(qemu_command(guest, CHANNELS), "-object")[0].endswith("mem-path=/run/a,,b/ram")


def test_hardware() -> None:
    guest = QemuConfig(
        Hardware(cpu="qemu64,-mtrr", memory="1G", cpus=2, cmdline="nopat"), Path("/boot/vmlinuz")
    )
    command = qemu_command(guest, CHANNELS)
    assert values(command, "-cpu") == ["qemu64,cx16=off,-mtrr"]
    assert values(command, "-m") == ["1024M"]
    assert values(command, "-smp") == ["2"]
    (cmdline,) = values(command, "-append")
    assert cmdline.startswith("console=ttyS0 ")
    # The last word wins where the kernel's parameters contradict each other.
    assert cmdline.endswith(" nopat")


def test_room_for_more_memory() -> None:
    command = qemu_command(QemuConfig(Hardware(most_memory="1G")), CHANNELS)
    assert values(command, "-m") == ["256M,slots=4,maxmem=1024M"]
    # Of the memory that is there from the start nothing changes.
    assert values(command, "-object") == values(qemu_command(QemuConfig(), CHANNELS), "-object")


def test_display_is_beside_the_test_device() -> None:
    command = qemu_command(QemuConfig(Hardware(display="cirrus-vga")), CHANNELS)
    assert values(command, "-device") == ["cirrus-vga,id=display", "bochs-display,id=testdevice"]
    assert values(qemu_command(QemuConfig(), CHANNELS), "-device") == ["bochs-display,id=testdevice"]


def test_drives_are_shared_and_have_no_prefetchable_memory() -> None:
    guest = QemuConfig(drives=(Path("/cache/root"), Path("/cache/a,b")))
    command = qemu_command(guest, CHANNELS)
    drives = values(command, "-blockdev")
    assert all("read-only=on" in drive for drive in drives)
    assert drives[1].endswith("file.filename=/cache/a,,b")
    added = values(command, "-device")[1:]
    assert [device.split(",")[0] for device in added] == ["virtio-blk-pci", "virtio-blk-pci"]
    # Else SeaBIOS might put the test device's memory elsewhere than in other guests.
    assert all("disable-modern=on" in device for device in added)


def test_network_ends_at_this_host() -> None:
    command = qemu_command(QemuConfig(network=True), CHANNELS)
    (network,) = values(command, "-netdev")
    assert {"user", "restrict=on"} <= set(network.split(","))
    # A port is opened when somebody asks for one.
    assert "hostfwd" not in network
    assert values(qemu_command(QemuConfig(), CHANNELS), "-netdev") == []


def test_what_is_handed_in_is_no_part_of_the_guest() -> None:
    secret = dataclasses.replace(CHANNELS, fw_cfg_files=(("opt/memtype/key", Path("/run/a,b/key")),))
    assert values(qemu_command(QemuConfig(), secret), "-fw_cfg") == [
        "name=opt/memtype/key,file=/run/a,,b/key"
    ]
    assert "opt/memtype" not in rerun_command(QemuConfig())


def test_firmware() -> None:
    flash = (Path("/cache/code"), Path("/cache/a,b"))
    guest = QemuConfig(Hardware(firmware="ovmf", cmdline="nopat"), kernel=Path("/boot/vmlinuz"), flash=flash)
    for command in (qemu_command(guest, CHANNELS), shlex.split(rerun_command(guest))):
        assert values(command, "-drive") == [
            "if=pflash,unit=0,format=raw,readonly=on,file=/cache/code",
            "if=pflash,unit=1,format=raw,readonly=on,file=/cache/a,,b",
        ]
        # Its framebuffer is the test device's memory, which efifb would map.
        assert " video=efifb:off nopat" in values(command, "-append")[0]
    # A clone has the same chips.
    clone = QemuConfig(Hardware(firmware="ovmf"), flash=flash, state=Path("/s"))
    assert len(values(qemu_command(clone, CHANNELS), "-drive")) == 2
    assert not values(qemu_command(KERNEL, CHANNELS), "-drive")
    assert "efifb" not in values(qemu_command(KERNEL, CHANNELS), "-append")[0]


@pytest.mark.parametrize(
    ("smm", "option"), [(None, []), (True, ["smm=on"]), (False, ["smm=off"])], ids=["default", "on", "off"]
)
def test_system_management_mode(smm: bool | None, option: list[str]) -> None:
    (machine,) = values(qemu_command(QemuConfig(Hardware(smm=smm)), CHANNELS), "-machine")
    assert [each for each in machine.split(",") if each.startswith("smm=")] == option


@pytest.mark.parametrize(
    ("cpu", "vendor"),
    [
        ("qemu64", "AuthenticAMD"),
        ("EPYC-Rome-v2", "AuthenticAMD"),
        ("Opteron_G5", "AuthenticAMD"),
        ("Dhyana", "HygonGenuine"),
        ("qemu32", "GenuineIntel"),
        ("Skylake-Server-noTSX-IBRS", "GenuineIntel"),
    ],
)
def test_kvm_shows_the_vendor_of_the_model(cpu: str, vendor: str) -> None:
    # QEMU 7.2, target/i386/cpu.c, builtin_x86_defs.
    (argument,) = values(qemu_command(QemuConfig(Hardware(cpu=cpu), accelerator="kvm"), CHANNELS), "-cpu")
    assert argument.split(",")[:2] == [cpu, f"vendor={vendor}"]


@pytest.mark.parametrize("cpu", ["host", "max"])
def test_kvm_shows_the_host_where_that_is_asked_for(cpu: str) -> None:
    (argument,) = values(qemu_command(QemuConfig(Hardware(cpu=cpu), accelerator="kvm"), CHANNELS), "-cpu")
    assert "vendor" not in argument


def test_what_a_test_says_of_the_cpu_comes_last_and_wins() -> None:
    guest = QemuConfig(Hardware(cpu="qemu64,x2apic=on,-mtrr"), accelerator="kvm")
    command = qemu_command(guest, CHANNELS)
    assert values(command, "-accel") == ["kvm"]
    assert values(command, "-cpu")[0].endswith(",x2apic=on,-mtrr")


def test_no_kernel() -> None:
    assert not {"-kernel", "-initrd", "-append", "-option-rom", "-incoming"} & set(
        qemu_command(QemuConfig(), CHANNELS)
    )


@pytest.mark.parametrize(("share", "text"), [(True, "share=on"), (False, "share=off")])
@pytest.mark.parametrize(
    ("file", "backend"), [(None, "memory-backend-memfd"), (Path("/r"), "memory-backend-file")]
)
def test_ram(share: bool, text: str, file: Path | None, backend: str) -> None:
    (ram,) = values(qemu_command(QemuConfig(ram_file=file, ram_share=share), CHANNELS), "-object")
    assert ram.startswith(f"{backend},id=ram,size=256M,")
    assert text in ram.split(",")


def test_a_saved_state_is_waited_for() -> None:
    assert values(qemu_command(QemuConfig(state=Path("/s")), CHANNELS), "-incoming") == ["defer"]


def test_rerun_is_the_same_guest_with_its_console_on_the_terminal() -> None:
    rerun = shlex.split(rerun_command(KERNEL))
    command = qemu_command(KERNEL, CHANNELS)
    machine = ("-machine", "-accel", "-cpu", "-m", "-smp", "-object", "-device")
    for option in (*machine, "-kernel", "-initrd", "-option-rom"):
        assert values(rerun, option) == values(command, option)
    # The agent's word for a shell on the console.
    (append,) = values(command, "-append")
    assert values(rerun, "-append") == [f"{append} memtype=shell"]
    assert values(rerun, "-serial") == ["mon:stdio", "null"]
    assert not {"-S", "-chardev", "-mon", "-incoming"} & set(rerun)


def test_rerun_of_a_clone_boots() -> None:
    rerun = rerun_command(QemuConfig(ram_file=Path("/gone/ram"), ram_share=False, state=Path("/gone/state")))
    assert "/gone" not in rerun
    assert "-incoming" not in rerun


def test_time_by_instructions_is_for_who_asks_for_it() -> None:
    assert values(qemu_command(KERNEL, CHANNELS), "-icount") == []
    counted = dataclasses.replace(KERNEL, icount=2)
    assert values(qemu_command(counted, CHANNELS), "-icount") == ["shift=2,sleep=on"]


def test_the_kernel_does_not_test_its_timer() -> None:
    """Linux, Documentation/admin-guide/kernel-parameters.txt. On a busy host that test panics (6.1, TCG)."""
    (cmdline,) = values(qemu_command(KERNEL, CHANNELS), "-append")
    assert "no_timer_check" in cmdline.split()
