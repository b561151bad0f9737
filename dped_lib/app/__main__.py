"""Start the ``dped`` command. This module imports next to nothing, so Ctrl-C is handled from the first moment."""

from dped_lib.base import interrupt


def main() -> None:
    """Run the ``dped`` command with the arguments of the process."""
    interrupt.spare_imports()
    from dped_lib.app import cli

    cli.main()


if __name__ == "__main__":
    main()
