"""For the outer guest: says what ``--accel auto`` takes, and why."""

from __future__ import annotations

from pytest_memtype.kernels.bundle import bundle
from pytest_memtype.run.qualification import chosen

if __name__ == "__main__":
    choice = chosen(bundle("debian:bookworm", progress=print), "auto", progress=print)
    print(f"{choice.accelerator}: {choice.reason}")
