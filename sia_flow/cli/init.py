"""`sia-flow init`: lay a project out in a folder.

Invariant: nothing that exists is overwritten unless the user says so, and every file arrives whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from sia_flow.errors import SiaFlowError

LAID_OUT = ("flows", "specs", "tasks", "dvc.yaml", "mlruns/README.md", ".gitignore", ".dvcignore")

NEXT = """Next:
  cd {folder}
  sia-flow doctor
  sia-flow prepare
  sia-flow plan specs/denoise.yaml
  sia-flow apply specs/denoise.yaml"""


def command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to lay the project out in.")],
    force: Annotated[bool, typer.Option("--force", help="Also into a folder with files; overwrites.")] = False,
) -> None:
    """Lay out a project in a folder: specs, tasks, flows, dvc.yaml."""
    written = lay_out(folder, force=force)
    typer.echo(f"{folder}: {len(written)} files")
    typer.echo(NEXT.format(folder=folder))


def lay_out(folder: Path, *, force: bool = False) -> list[Path]:
    """Copy the project's files into `folder` and return their paths.

    Raises SiaFlowError when the folder holds files and `force` is not set, or is the source itself.
    """
    from sia_flow.files import write_atomic

    source = project_source()
    if folder.exists() and not folder.is_dir():
        raise SiaFlowError(f"{folder} is a file; name a folder")
    if folder.resolve() == source.resolve():
        raise SiaFlowError(f"{folder} is where sia-flow's own files are; name another folder")
    if folder.is_dir() and any(folder.iterdir()) and not force:
        raise SiaFlowError(f"{folder} is not empty; name a new folder, or add --force to write into it")
    written = []
    for path in _files(source):
        target = folder / path.relative_to(source)
        write_atomic(target, path.read_bytes(), sync=False)
        target.chmod(0o644)
        written.append(target)
    return written


def project_source() -> Path:
    """Return the folder that holds the project's files: in the wheel, or the repository of a checkout."""
    package = Path(__file__).resolve().parents[1]
    for root in (package / "project", package.parent):
        if (root / "specs").is_dir() and (root / "tasks").is_dir():
            return root
    raise SiaFlowError(f"the project's files are not in this installation ({package}); reinstall sia-flow")


def _files(source: Path) -> Iterator[Path]:
    """Yield the files to lay out, in a fixed order, without what Python or a tool left there."""
    for name in LAID_OUT:
        root = source / name
        for path in sorted(root.rglob("*")) if root.is_dir() else [root]:
            hidden = any(part.startswith((".", "__pycache__")) for part in path.relative_to(root).parts)
            if path.is_file() and not path.is_symlink() and not hidden and path.suffix != ".pyc":
                yield path
