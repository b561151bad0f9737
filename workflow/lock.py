"""Write requirements.lock: the version of every package that the project needs, directly or indirectly.

`make lock` runs this script. It installs the dependencies of pyproject.toml (with the extras "test" and "site" and
the build backend) into a fresh virtual environment and records the installed versions. Torch comes first, so that no other package
chooses its build. Packages that only another Python or macOS needs are pinned too, with the marker that requires them.
The CUDA packages of torch are not listed: the builds of torch that need them pin their versions.

    python workflow/lock.py          lock the newest versions that fit together
    python workflow/lock.py --keep   keep the locked versions and add missing packages

The script needs only the standard library. It uses the package index that pip is configured for.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"

#: Other systems and Pythons that the lock supports. The lock is made with Python 3.11 on Linux.
OTHER_PYTHONS = ("3.11", "3.12", "3.13", "3.14")
OTHER_SYSTEMS = (("linux", "Linux"), ("darwin", "Darwin"))

HEADER = """\
# Every package, direct and transitive, at the version that this project is tested with.
# Made by `make lock` (workflow/lock.py) with Python {python} on {system}; do not edit by hand.
# Install torch first, then all of it (`make setup` does):
#   pip install "$(grep ^torch== requirements.lock)" && pip install -r requirements.lock
"""

# Code that runs in the fresh environment. The second piece uses pip's own copy of `packaging`.
_READ_INSTALLED = """
import importlib.metadata, json
print(json.dumps([[d.metadata["Name"], d.version, d.requires or []] for d in importlib.metadata.distributions()]))
"""
_WANTED_ELSEWHERE = """
import json, sys
from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.utils import canonicalize_name
installed, pythons, systems = json.load(sys.stdin)
have = {canonicalize_name(name) for name, _, _ in installed}
found = {}
for _, _, requires in installed:
    for text in requires:
        r = Requirement(text)
        if r.marker is None or canonicalize_name(r.name) in have or "extra" in str(r.marker):
            continue
        for python in pythons:
            for sys_platform, platform_system in systems:
                if r.marker.evaluate({"python_version": python, "python_full_version": python + ".0",
                                      "sys_platform": sys_platform, "platform_system": platform_system, "extra": ""}):
                    found[r.name + str(r.specifier)] = str(r.marker)
print(json.dumps(found))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", action="store_true", help="keep the locked versions")
    keep = parser.parse_args().keep

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    wanted = [
        *project["project"]["dependencies"],
        *extras["test"],
        *extras["site"],
        *project["build-system"]["requires"],
    ]
    torch = [r for r in wanted if r.startswith("torch=")]

    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder, "bin", "python"))
        constraint = ["-c", str(LOCK)] if keep else []

        def pip_install(*arguments: str) -> str:
            command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
            return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

        print(f"Resolving {', '.join(torch)}", file=sys.stderr)
        pip_install(*torch, *constraint)
        print(f"Resolving {len(wanted) - len(torch)} more requirements", file=sys.stderr)
        pip_install(*wanted, *constraint)
        subprocess.run([python, "-m", "pip", "check"], check=True, stdout=sys.stderr)
        installed = json.loads(subprocess.check_output([python, "-c", _READ_INSTALLED], text=True))

        # A local suffix (+cpu, +cu130) names the build that this machine's pip prefers; the lock is for every machine.
        pins = {name: version.split("+")[0] for name, version, _ in installed if name.lower() != "pip"}
        pinned = Path(folder, "pins.txt")
        pinned.write_text("".join(f"{name}=={version}\n" for name, version in pins.items()))
        elsewhere = json.loads(
            subprocess.run(
                [python, "-c", _WANTED_ELSEWHERE],
                input=json.dumps([installed, OTHER_PYTHONS, OTHER_SYSTEMS]),
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            ).stdout
        )
        markers: dict[tuple[str, str], set[str]] = {}
        for requirement, marker in sorted(elsewhere.items()):
            print(f"Resolving {requirement} for {marker}", file=sys.stderr)
            report = json.loads(pip_install("--dry-run", "--report", "-", "-c", str(pinned), requirement))
            for item in report["install"]:
                package = (item["metadata"]["name"], item["metadata"]["version"])
                markers.setdefault(package, set()).add(marker)

    lines = [f"{name}=={version}" for name, version in pins.items()]
    lines += [f"{name}=={version} ; {' or '.join(sorted(m))}" for (name, version), m in markers.items()]
    header = HEADER.format(python=platform.python_version(), system=f"{platform.system()} {platform.machine()}")
    part = LOCK.with_suffix(".part")
    part.write_text(header + "\n".join(sorted(lines, key=str.lower)) + "\n", encoding="utf-8")
    part.replace(LOCK)
    print(f"{LOCK.name}: {len(lines)} packages", file=sys.stderr)


if __name__ == "__main__":
    main()
