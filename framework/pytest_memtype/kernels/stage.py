"""The stages in which a kernel is made ready, and the lines of progress that begin one."""

from __future__ import annotations

import enum


class Stage(enum.StrEnum):
    """How far a kernel is."""

    WAITING = "waiting"
    DOWNLOADING = "downloading"
    BUILDING = "building"
    READY = "ready"
    FAILED = "failed"


class Step(str):
    """A line of progress with which a stage begins, such as ``building the guest for 6.1.0-56-cloud-amd64``.

    :ivar stage: That stage. A line that is no step, such as the name of an index that is read, is of WAITING.
    """

    __slots__ = ("stage",)

    stage: Stage

    def __new__(cls, stage: Stage, what: str) -> Step:
        """Make the line of a stage.

        :param stage: The stage, which is its first word.
        :param what: The rest of the line.
        """
        step = super().__new__(cls, f"{stage} {what}")
        step.stage = stage
        return step
