"""What control groups leave of memory, by trees as kernels and container engines show them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_memtype.host.control_groups import memory_left

MIB = 1 << 20
UNLIMITED = 9223372036854771712


def version_2(group: Path, limit: str, used: int = 0, cached: int = 0) -> None:
    group.mkdir(parents=True, exist_ok=True)
    (group / "memory.max").write_text(f"{limit}\n")
    (group / "memory.current").write_text(f"{used}\n")
    # Shared memory counts in "file", and can't be given back.
    stat = f"anon 4096\nfile {used}\nshmem 4096\ninactive_file {cached // 2}\nactive_file {cached // 2}\n"
    (group / "memory.stat").write_text(stat)


def version_1(group: Path, limit: int, used: int = 0, cached: int = 0) -> None:
    group.mkdir(parents=True, exist_ok=True)
    (group / "memory.limit_in_bytes").write_text(f"{limit}\n")
    (group / "memory.usage_in_bytes").write_text(f"{used}\n")
    # The first line is of this group alone.
    (group / "memory.stat").write_text(
        f"inactive_file 0\ntotal_inactive_file {cached}\ntotal_active_file 0\n"
    )


def test_a_container_sees_its_own_group_at_the_top(tmp_path: Path) -> None:
    version_2(tmp_path, str(512 * MIB), used=112 * MIB)
    assert memory_left("0::/\n", root=tmp_path) == 400 * MIB


def test_cached_files_can_be_given_back(tmp_path: Path) -> None:
    version_2(tmp_path, str(512 * MIB), used=500 * MIB, cached=400 * MIB)
    assert memory_left("0::/\n", root=tmp_path) == 412 * MIB


def test_the_tightest_of_nested_groups_counts(tmp_path: Path) -> None:
    version_2(tmp_path / "ci.slice", str(300 * MIB), used=100 * MIB)
    version_2(tmp_path / "ci.slice/job: 1", "max", used=80 * MIB)
    version_2(tmp_path / "ci.slice/job: 1/step", str(400 * MIB), used=80 * MIB)
    # The top of all has no limit, nor has it these files.
    assert memory_left("0::/ci.slice/job: 1/step\n", root=tmp_path) == 200 * MIB


def test_more_than_the_limit_leaves_nothing(tmp_path: Path) -> None:
    version_2(tmp_path, str(MIB), used=2 * MIB)
    assert memory_left("0::/\n", root=tmp_path) == 0


def test_no_limit(tmp_path: Path) -> None:
    version_2(tmp_path / "user.slice", "max", used=MIB)
    assert memory_left("0::/user.slice\n", root=tmp_path) is None
    assert memory_left("", root=tmp_path) is None


def test_version_1(tmp_path: Path) -> None:
    version_1(tmp_path / "memory/job", 512 * MIB, used=500 * MIB, cached=400 * MIB)
    version_1(tmp_path / "memory", UNLIMITED)
    assert memory_left("5:cpu,cpuacct:/job\n4:memory:/job\n0::/\n", root=tmp_path) == 412 * MIB


@pytest.mark.parametrize("path", ["/docker/0123456789ab", "/../../../docker/0123456789ab"])
def test_version_1_in_a_container_names_a_path_of_the_host(path: str, tmp_path: Path) -> None:
    version_1(tmp_path / "memory", 512 * MIB, used=112 * MIB)
    assert memory_left(f"4:memory:{path}\n", root=tmp_path) == 400 * MIB
