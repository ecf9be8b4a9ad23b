"""TF Serving's layout on disk, `base/<version>/`: a version appears whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator

import tensorflow as tf
from absl import logging

SAMPLE_ROWS = "sample_rows.json"
"""File of a version: rows to try it with."""

FILES = "files.json"
"""File of a version: the size of each file that TensorFlow loads, so that half a copy is known as one."""

_LOADED = ("saved_model.pb", "variables", "assets")


def versions(base: str) -> list[int]:
    """The versions in a base folder, ascending. TF Serving takes every folder whose name is a whole number for one."""
    if not os.path.isdir(base):
        return []
    return sorted(
        int(name) for name in os.listdir(base) if name.isdecimal() and os.path.isdir(os.path.join(base, name))
    )


def version_dir(model: str) -> str:
    """The folder of a SavedModel: the path itself, or the highest complete version below it.

    A version that lacks something, as one that is being copied there does, is left out with a warning.

    Raises:
      FileNotFoundError: there is no SavedModel, or none that is complete; says what is lacking.
    """
    if os.path.exists(os.path.join(model, "saved_model.pb")):
        lacking = missing_part(model)
        if lacking:
            raise FileNotFoundError(f"the SavedModel at {model} is incomplete: {lacking}; copy or export it again")
        return model
    lacking_in: dict[int, str] = {}
    for version in reversed(versions(model)):
        folder = os.path.join(model, str(version))
        lacking = missing_part(folder)
        if not lacking:
            if lacking_in:
                logging.warning("%s: takes version %d, as others are incomplete: %s", model, version, lacking_in)
            return folder
        lacking_in[version] = lacking
    raise FileNotFoundError(
        f"no SavedModel at {model}: neither saved_model.pb nor a version folder with a complete one"
        + (f"; {lacking_in}" if lacking_in else "")
    )


def missing_part(folder: str) -> str:
    """What a SavedModel's folder lacks of what it should hold; "" where nothing is missing.

    Exports of this package list their files with their sizes; of others, the graph and the variables' index must be
    there.
    """
    listing = os.path.join(folder, FILES)
    if os.path.exists(listing):
        with open(listing, encoding="utf-8") as stream:
            text = stream.read()
        try:
            expected: dict[str, int] = json.loads(text)
        except ValueError:
            return f"{FILES} is cut off"
        for file, size in expected.items():
            path = os.path.join(folder, file)
            found = os.path.getsize(path) if os.path.exists(path) else None
            if found != size:
                return f"no {file}" if found is None else f"{file} has {found:,} of {size:,} bytes"
        return ""
    required = ["saved_model.pb"]
    if os.path.isdir(os.path.join(folder, "variables")):
        required.append(os.path.join("variables", "variables.index"))
    return "".join([f"no {file}" for file in required if not os.path.exists(os.path.join(folder, file))][:1])


def _list_files(folder: str) -> None:
    """Writes the sizes of the files that TensorFlow loads, if the folder is a SavedModel's."""
    sizes: dict[str, int] = {}
    for name in _LOADED:
        top = os.path.join(folder, name)
        paths = [top] if os.path.isfile(top) else [os.path.join(d, f) for d, _, files in os.walk(top) for f in files]
        sizes |= {os.path.relpath(path, folder): os.path.getsize(path) for path in sorted(paths)}
    if sizes:
        with open(os.path.join(folder, FILES), "w", encoding="utf-8") as stream:
            json.dump(sizes, stream, indent=1)
            stream.write("\n")


@contextlib.contextmanager
def written_beside(base: str, version: int | None = None) -> Iterator[tuple[str, str]]:
    """Gives (a new folder to write into, the final one); renames when the block ends well, else removes what it wrote.

    Args:
      base: the model's base folder; made where it does not exist.
      version: a whole number; None = one more than the highest there, 1 at first.

    Raises:
      ValueError: the version is no whole number.
      FileExistsError: the version exists.
      OSError: the folder cannot be written; names it, and nothing is left of what was begun.
    """
    if version is None:
        version = max(versions(base), default=0) + 1
    if isinstance(version, bool) or not isinstance(version, int) or version < 0:
        raise ValueError(f"version must be a whole number >= 0, as TF Serving wants, got {version!r}")
    final = os.path.join(base, str(version))
    if os.path.lexists(final):
        raise FileExistsError(f"version {version} exists: {final}; give another version, or none for the next one")
    # TF Serving looks at names that are numbers only.
    scratch = os.path.join(base, f".writing-{version}-{uuid.uuid4().hex[:8]}")
    made = [folder for folder in _missing_parents(scratch) if folder != scratch]
    try:
        os.makedirs(scratch)
        yield scratch, final
        _list_files(scratch)
        if os.path.lexists(final):
            raise FileExistsError(f"version {version} appeared while it was written: {final}")
        os.rename(scratch, final)
    except BaseException as error:
        shutil.rmtree(scratch, ignore_errors=True)
        for folder in made:
            with contextlib.suppress(OSError):  # somebody else put something there, or it was never made
                os.rmdir(folder)
        if isinstance(error, FileExistsError) or not isinstance(error, OSError | tf.errors.OpError):
            raise
        raise OSError(f"cannot write {final}; nothing of it was left behind: {error}") from error


def _missing_parents(path: str) -> list[str]:
    """The folders on the way to the path that do not exist yet, the deepest first."""
    missing = []
    while path and not os.path.lexists(path):
        missing.append(path)
        path = os.path.dirname(path)
    return missing
