"""Every command in the documents is run, in order, as a reader would run it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from contract.documents import Command, DocumentError, read_commands, run_commands
from contract.tree import ROOT, checkout_entries

DOCUMENTS = [
    path
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
    if path.is_file()
]
each_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT))
)

SMALL = """# A document

```console
$ mkdir parts && cd parts
$ echo "two \\
>   lines" > note
$ cat note
two   lines
```

```python
print("$ not a command")
```

<!-- exit 3 -->
```console
$ (exit 3)
```

1. In a list:

   ```bash
   test -f note
   name=part
   ```

<!-- not run: needs a camera -->
```console
$ edge-run --camera 0
```
"""


def test_commands_are_read_in_order_with_their_exit_codes() -> None:
    assert read_commands(SMALL) == [
        Command(4, "mkdir parts && cd parts"),
        Command(5, 'echo "two \\\n  lines" > note'),
        Command(7, "cat note"),
        Command(17, "(exit 3)", exit_code=3),
        Command(23, "(set -e\ntest -f note\nname=part\n)"),
        Command(29, "edge-run --camera 0", reason_not_run="needs a camera"),
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("```console\n$ true\n", "line 1: the block does not end"),
        ("```console\ntrue\n```\n", "line 1: expected commands, found none"),
        ("```bash\n\n```\n", "line 1: expected commands, found none"),
        ("```sh\ntrue\n```\n", "line 1: sh: name it console or bash"),
        ("<!-- not run: -->\n```console\n$ true\n```\n", "line 2: not run, but why?"),
        ("<!-- exit x -->\n```console\n$ true\n```\n", "expected an exit code, got 'x'"),
        ("<!-- exit 3 -->\n```console\n$ true\n$ false\n```\n", "belongs to one command alone"),
        ("<!-- exit 3 -->\nSome text.\n", "line 2: expected a block after the note"),
        ("<!-- not run: a reason -->\n", "the document ends after a note"),
        ("<!-- exit 3 -->\n```json\n{}\n```\n", "before a block that is not run anyway"),
    ],
)
def test_a_document_that_hides_a_command_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(DocumentError, match=complaint):
        read_commands(text)


def test_the_commands_of_a_document_share_a_folder(tmp_path: Path) -> None:
    said = run_commands(read_commands(SMALL), tmp_path, os.environ)

    assert "$ cat note\ntwo   lines\n" in said
    assert "edge-run" not in said
    assert (tmp_path / "parts" / "note").read_text() == "two   lines\n"


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        ("false", "line 2: expected exit code 0, got 1"),
        ("no-such-command --help", "line 2: expected exit code 0, got 127"),
        ("echo 'open", "line 2: expected exit code 0, got"),
        ("exit 0", r"\$ exit 0"),
    ],
)
def test_a_document_whose_command_goes_wrong_fails(
    command: str, complaint: str, tmp_path: Path
) -> None:
    commands = read_commands(f"```console\n$ {command}\n$ echo unreachable\n```\n")
    with pytest.raises(DocumentError, match=complaint) as failure:
        run_commands(commands, tmp_path, os.environ)
    assert "\nunreachable" not in str(failure.value)


@pytest.mark.timeout(60)
def test_what_a_document_leaves_running_is_stopped(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "alive")
    reader = os.open(tmp_path / "alive", os.O_RDONLY | os.O_NONBLOCK)
    commands = read_commands("```console\n$ exec 9> alive\n$ sleep 600 &\n```\n")

    run_commands(commands, tmp_path, os.environ)

    os.set_blocking(reader, True)
    assert os.read(reader, 1) == b"", "the end comes when nobody holds the other end any more"
    os.close(reader)


@each_document
def test_every_block_of_a_document_can_be_read(document: Path) -> None:
    for command in read_commands(document.read_text("utf-8")):
        why = f"  (not run: {command.reason_not_run})" if command.reason_not_run else ""
        print(f"{document.name}:{command.line}: {command.text}{why}")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@each_document
def test_every_command_of_a_document_does_what_it_says(document: Path, tmp_path: Path) -> None:
    home, folder = tmp_path / "home", tmp_path / "checkout"
    home.mkdir()
    folder.mkdir()
    for entry in checkout_entries():  # links: what a command writes here stays here
        (folder / entry.name).symlink_to(entry)
    environment = os.environ | {
        "EDGE_VENV": sys.prefix,
        "HOME": str(home),
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
    }
    print(run_commands(read_commands(document.read_text("utf-8")), folder, environment))
