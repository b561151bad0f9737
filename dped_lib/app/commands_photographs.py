"""Define the command that enhances whole photographs: ``enhance``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from dped_lib.app.options import Device, print_line
from dped_lib.base import validation
from dped_lib.base.errors import DpedError, memory_ran_out

#: If more photographs fail, a last line counts them. The messages may fill more than a screen.
_MANY = 10


def enhance(
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="IN... OUT", help="Photographs or folders of them, then the file or folder to write."),
    ],
    weights: Annotated[
        str,
        typer.Option(
            help="authors:NAME (iphone, blackberry, sony, ...), shipped:NAME (city100-iphonex, ...) or a safetensors file."
        ),
    ] = "authors:iphone",
    precision: Annotated[
        str,
        typer.Option(
            help="float32 is exact. bfloat16 is faster; no 8-bit value was seen to differ by more than two steps. "
            "auto takes bfloat16 if the processor multiplies it in hardware."
        ),
    ] = "auto",
    max_memory: Annotated[
        str,
        typer.Option(help="Peak memory, e.g. 4GiB. Default: a share of the free memory. Less memory takes longer."),
    ] = "",
    quality: Annotated[int, typer.Option(min=1, max=100, help="Quality of JPEG and WebP files.")] = 95,
    format: Annotated[str, typer.Option(help="jpg, png, webp or tif. Default: the format of the input.")] = "",
    compare: Annotated[
        bool, typer.Option("--compare", help="Also write a picture with original and result side by side.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace earlier results of dped enhance. Other files are always kept.")
    ] = False,
    device: Device = "auto",
) -> None:
    """Enhance whole photographs of any size in bounded memory."""
    from dped_lib.data import network_files, picture
    from dped_lib.enhance import enhancement
    from dped_lib.enhance import files as enhance_files

    def enhanced(job: enhance_files.Job) -> Iterator[Path]:
        # A generator, so that an error of the caller, for instance of a closed pipe, is no failure of the photograph.
        try:
            yield from enhance_files.do(engine, job, quality, lambda text: print_line(text, err=True))
        except DpedError as error:
            message = str(error)  # names the photograph, or only a file or folder of the results
            failed.append(message if message.startswith(f"{job.source}: ") else f"{job.source}: {message}")
        except BrokenPipeError:
            raise
        except (OSError, RuntimeError, MemoryError) as error:  # the next photograph may still succeed
            failed.append(f"{job.source}: {_explained(error)}")

    if len(inputs) < 2:
        raise DpedError("name photographs or folders, then the file or folder to write: dped enhance IN... OUT.")
    suffix = f".{format.lower().lstrip('.')}" if format else ""
    if suffix:
        validation.one_of("format", suffix[1:], [f[1:] for f in picture.FORMATS])
    limit = enhancement.parse_size(max_memory) if max_memory else None
    planned = enhance_files.plan_jobs(inputs[:-1], inputs[-1], suffix, compare, overwrite)
    failed = list(planned.failed)
    for note in (*planned.notes, *enhance_files.probe(planned.to_do)):
        print_line(note, err=True)
    engine = None
    try:
        for job in planned.jobs:
            for path, make in ((job.target, job.make), (job.sheet, job.make_sheet)):
                if path and not make:
                    print_line(enhance_files.why_kept(path))
            if not (job.make or job.make_sheet):
                continue
            engine = engine or enhancement.engine(network_files.resolve(weights), precision, device, limit)
            for path in enhanced(job):
                print_line(str(path))
    finally:  # also after Ctrl-C
        for message in failed:
            print_line(f"not enhanced: {message}", err=True)
        if len(failed) > _MANY:
            total = len(planned.jobs) + len(planned.failed)
            print_line(f"{len(failed)} of {total} photographs were not enhanced.", err=True)
    if failed:
        raise typer.Exit(1)


def _explained(error: Exception) -> str:
    """Return kind and message of an error, and the remedy if memory could not be allocated."""
    text = ": ".join(filter(None, (type(error).__name__, str(error))))
    if memory_ran_out(error):
        return f"{text.rstrip('.')}. Close other programs, or lower --max-memory."
    return text
