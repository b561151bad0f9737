"""Start the ``dped`` command: collect the commands, and turn errors into messages and exit statuses."""

import functools
import os
import traceback
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path

import typer
from typer.core import TyperGroup

from dped_lib.app import commands_data, commands_networks, commands_photographs, commands_reproduction
from dped_lib.app.options import print_line
from dped_lib.base import interrupt, paths
from dped_lib.base.errors import DpedError


def _file_of(error: OSError | EOFError) -> str | None:
    """Return the file that an error is about, or None."""
    if isinstance(error, OSError):
        return None if error.filename is None else os.fsdecode(error.filename)
    # An EOFError does not name its file, but the function that read it (numpy.load) had it as its argument.
    arguments = [frame.f_locals.get("file") for frame, _ in traceback.walk_tb(error.__traceback__)]
    return next((os.fsdecode(a) for a in reversed(arguments) if isinstance(a, str | os.PathLike)), None)


#: The arguments as the user wrote them.
_written: ContextVar[tuple[str, ...]] = ContextVar("written", default=())


class _Commands(TyperGroup):
    """Report an error in one line, without a traceback.

    The status is 2 for an error that the user can correct, and 130 for Ctrl-C.
    """

    def parse_args(self, ctx, args):
        _written.set(tuple(args))
        return super().parse_args(ctx, args)

    def invoke(self, ctx):
        # This happens here because typer drops the message of a KeyboardInterrupt that leaves app().
        try:
            return super().invoke(ctx)
        except DpedError as error:
            print_line(f"dped: {error}", err=True)
            raise typer.Exit(2) from error
        except (OSError, EOFError) as error:  # typer would call an EOFError "Aborted."
            file = _file_of(error)
            if file is None and not isinstance(error, PermissionError):
                raise  # a closed pipe, which typer handles, or a fault of the program
            reason = getattr(error, "strerror", None) or f"empty or incomplete ({error})"
            print_line("dped: " + ": ".join(filter(None, (file, reason))), err=True)
            raise typer.Exit(2) from error
        except KeyboardInterrupt as stop:
            typer.echo(f"dped: interrupted. {stop}".rstrip(), err=True)
            raise typer.Exit(130) from stop


def _paths_in(values: dict[str, object]) -> Iterator[Path]:
    for value in values.values():
        yield from (item for item in (value if isinstance(value, list) else [value]) if isinstance(item, Path))


def _refuse_empty(values: dict[str, object]) -> None:
    """Raise DpedError if the user wrote "" for a file or folder. ``Path`` takes it for the current folder."""
    texts = [text.partition("=")[2] if text.startswith("--") else text for text in _written.get()]
    if sum(path == Path() for path in _paths_in(values)) > sum(text != "" and Path(text) == Path() for text in texts):
        raise DpedError(
            "an argument that names a file or folder is empty. Is a variable of the shell not set? "
            "Write . for the current folder."
        )


def _with_collapsed_paths(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command whose path arguments and options have no ``..`` (``paths.collapsed``).

    It refuses an empty path.
    """

    def collapse(value: object) -> object:
        if isinstance(value, list):
            return [collapse(item) for item in value]
        return paths.collapsed(value) if isinstance(value, Path) else value

    @functools.wraps(command)
    def with_collapsed_paths(**values: object) -> None:
        _refuse_empty(values)
        command(**{name: collapse(value) for name, value in values.items()})

    return with_collapsed_paths


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A living reproduction of 'DSLR-Quality Photos on Mobile Devices with Deep Convolutional Networks'.",
)
# The order of dped --help.
for _command in (
    commands_data.fetch,
    commands_data.align,
    commands_reproduction.doctor,
    commands_networks.train,
    commands_networks.evaluate,
    commands_photographs.enhance,
    commands_networks.export,
    commands_data.baselines,
    commands_reproduction.study,
    commands_reproduction.run,
):
    app.command()(_with_collapsed_paths(_command))


def main() -> None:
    """Run the ``dped`` command with the arguments of the process."""
    paths.make_absolute()
    interrupt.spare_imports()  # again, for those who start this module and not ``dped_lib.app``
    app()


if __name__ == "__main__":
    main()
