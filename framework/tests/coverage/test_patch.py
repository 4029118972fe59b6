from __future__ import annotations

from pathlib import Path

import pytest

from pytest_memtype.coverage.lines import SourceFile
from pytest_memtype.coverage.patch import ChangedLine, changed_lines, patched
from pytest_memtype.errors import UsageError

PATCH = """\
From 0123 Mon Sep 17 00:00:00 2001
Subject: [PATCH] x86/mm/pat: say so

---
 arch/x86/mm/pat/memtype.c | 3 ++-

diff --git a/arch/x86/mm/pat/memtype.c b/arch/x86/mm/pat/memtype.c
index 0123..4567 100644
--- a/arch/x86/mm/pat/memtype.c
+++ b/arch/x86/mm/pat/memtype.c
@@ -2,3 +2,4 @@ int memtype_reserve(void)
 \tint error = 0;
-\treturn error;
+\tif (error)
+\t\tpr_info("++ no");
 }
--- a/include/x.h
+++ b/include/x.h
@@ -1 +1 @@
-#define X 1
+#define X 2
--\x20
2.39.5
"""

SOURCE = """\
int memtype_reserve(void)
\tint error = 0;
\tif (error)
\t\tpr_info("++ no");
}
"""

NAME = "arch/x86/mm/pat/memtype.c"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A source that has the patch."""
    (tmp_path / NAME).parent.mkdir(parents=True)
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "x.h").write_text("#define X 2\n")
    (tmp_path / NAME).write_text(SOURCE)
    return tmp_path


def test_lines_of_a_patch(tree: Path) -> None:
    assert changed_lines(PATCH, tree) == [
        ChangedLine(NAME, 3, "\tif (error)"),
        ChangedLine(NAME, 4, '\t\tpr_info("++ no");'),
        ChangedLine("include/x.h", 1, "#define X 2"),
    ]


def test_a_patch_of_another_version(tree: Path) -> None:
    """What stood at line 2 there stands at line 12 here, and once more far behind."""
    (tree / NAME).write_text("/* */\n" * 10 + SOURCE + "/* */\n" * 90 + SOURCE)
    assert [line.number for line in changed_lines(PATCH, tree)] == [13, 14, 1]


def test_what_is_no_patch(tree: Path) -> None:
    with pytest.raises(UsageError, match="no patch"):
        changed_lines("int x;\n", tree)


def test_which_changed_lines_were_run(tree: Path) -> None:
    file = SourceFile(NAME, lines={3: 7, 4: 0})
    found = patched(changed_lines(PATCH, tree), {NAME: file})
    assert [(each.line.number, each.times, each.profiled) for each in found] == [(3, 7, True), (4, 0, True)]
    (first, _) = patched(changed_lines(PATCH, tree), {})
    assert (first.times, first.profiled) == (None, False)


def test_a_tree_must_have_the_patch(tree: Path) -> None:
    (tree / NAME).write_text(SOURCE.replace("if (error)", "if (!error)"))
    with pytest.raises(UsageError, match=rf"{NAME} doesn't have what the patch makes of it at line 2"):
        changed_lines(PATCH, tree)
    (tree / NAME).unlink()
    with pytest.raises(UsageError, match="No such file"):
        changed_lines(PATCH, tree)
