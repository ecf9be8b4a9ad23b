"""Checks that a wheel holds what it must and nothing else: ``python .ci/check_wheel.py dist/NAME.whl``."""

import pathlib
import subprocess
import sys
import zipfile

LICENCES = ("LICENSE", "NOTICE", "CITATION.cff")


def expected_names() -> set[str]:
    """Every tracked or new file of the package, as git sees the checkout."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "xdeepint_ext"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return {name for name in listed if pathlib.Path(name).exists()}


def main(wheel: str) -> None:
    """Compares the names in the wheel with the checkout's and exits with a message where they differ."""
    names = zipfile.ZipFile(wheel).namelist()
    info = next(name.split("/")[0] for name in names if name.endswith(".dist-info/METADATA"))
    code = {name for name in names if not name.startswith(info)}
    wanted = expected_names() | {"xdeepint_ext/py.typed"}
    problems = [f"missing: {name}" for name in sorted(wanted - code)]
    problems += [f"does not belong there: {name}" for name in sorted(code - wanted)]
    problems += [f"missing: {info}/licenses/{name}" for name in LICENCES if f"{info}/licenses/{name}" not in names]
    if problems:
        sys.exit("\n".join([f"{wheel} is not as it should be:", *problems]))
    print(f"{wheel}: {len(code)} files of the package, {', '.join(LICENCES)}")


if __name__ == "__main__":
    main(sys.argv[1])
