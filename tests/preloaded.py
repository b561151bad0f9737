"""Snakemake without the seconds that its imports take: a process that has made them forks for each call."""

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

#: Seconds that one call may take.
LIMIT = 300


@contextlib.contextmanager
def snakemake(folder: Path, environment: Mapping[str, str], unchanging: bool = False) -> Iterator[Callable]:
    """Yield a function that runs ``snakemake ARGUMENTS`` in a folder and returns its status and what it printed.

    The modules are imported once, in that folder and environment. Each call then has a process and an environment of
    its own, so nothing that a call computes or caches reaches the next. ``unchanging`` says that no file of the library
    changes meanwhile, so what each notebook imports is read once.
    """
    # A process with threads must not fork, and libraries for linear algebra start some.
    alone = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with (
        tempfile.TemporaryDirectory() as said,
        subprocess.Popen(
            [sys.executable, __file__, *(["unchanging"] if unchanging else [])],
            cwd=folder,
            env={**environment, **alone},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as server,
    ):
        files = [Path(said, "stdout"), Path(said, "stderr")]

        def call(arguments: list[str], environment: Mapping[str, str]) -> tuple[int, str]:
            server.stdin.write(json.dumps([arguments, dict(environment), *map(str, files)]) + "\n")
            server.stdin.flush()
            answer = server.stdout.readline()
            assert answer, "the process that has imported Snakemake has ended"
            output = "".join(file.read_text() for file in files)
            assert int(answer) != -signal.SIGALRM, f"not done in {LIMIT} s:\n{output}"
            return int(answer), output

        yield call


def serve() -> None:
    """Answer each line of standard input, which is one call, with the status of its process."""
    # What workflow/Snakefile imports.
    import snakemake.cli

    from dped_lib.app import sources
    from dped_lib.base import paths
    from dped_lib.data import shipping  # noqa: F401
    from dped_lib.experiments import ablation, discriminators  # noqa: F401

    if "unchanging" in sys.argv:
        for file in paths.notebooks_dir().glob("*.ipynb"):
            sources.of_notebook(file)
    for line in sys.stdin:
        arguments, environment, *files = json.loads(line)
        if process := os.fork():
            print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
            continue
        signal.alarm(LIMIT)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, file in enumerate(files, 1):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = ["snakemake", *arguments]
        status = 0
        try:
            snakemake.cli.main()
        except SystemExit as end:
            status = end.code or 0
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # without the second that Python takes to clear up what was loaded


if __name__ == "__main__":
    serve()
