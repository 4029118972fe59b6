from __future__ import annotations

from pytest_memtype.cluster.tasks import LONGEST, Case, Task, cut, halves


def _cases(count: int, variant: str = "6.1", place: str = "firmware", together: str = "") -> list[Case]:
    return [Case(f"{variant}-{place}-{number}", variant, place, together, 1.0) for number in range(count)]


def test_each_test_is_in_one_task_of_its_kernel() -> None:
    cases = [*_cases(90), *_cases(40, "5.10"), *_cases(7, "5.10", "wc")]
    tasks = cut(cases, slots=2)
    assert sorted(nodeid for task in tasks for nodeid in task.nodeids) == sorted(
        each.nodeid for each in cases
    )
    assert all(nodeid.startswith(f"{task.variant}-") for task in tasks for nodeid in task.nodeids)


def test_long_tasks_come_first_and_the_last_ones_are_small() -> None:
    seconds = [task.seconds for task in cut(_cases(400), slots=2)]
    assert seconds == sorted(seconds, reverse=True)
    assert seconds[0] == LONGEST
    assert seconds[-1] <= 5


def test_tests_that_share_a_guest_stay_together() -> None:
    tasks = cut([*_cases(60, together="test_a.py"), *_cases(60, place="wc")], slots=8)
    assert sum(any("firmware" in nodeid for nodeid in task.nodeids) for task in tasks) == 1


def test_few_templates_are_booted_twice() -> None:
    cases = [each for place in ("a", "b", "c", "d") for each in _cases(8, place=place)]
    tasks = cut(cases, slots=1)
    places = [{nodeid.split("-")[1] for nodeid in task.nodeids} for task in tasks]
    assert sum(map(len, places)) <= 4 + len(tasks)


def test_a_task_that_fails_is_halved_and_at_last_its_tries_are_counted() -> None:
    first, second = halves(Task("6.1", ("a", "b", "c"), 3.0))
    assert (first.nodeids, second.nodeids) == (("a",), ("b", "c"))
    assert halves(first) == [Task("6.1", ("a",), 1.5, tries=1)]
