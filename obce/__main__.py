"""The command ``obce``, which is ``python -m obce``, also under ``torchrun -m obce``."""

import sys


def main() -> None:
    """Run the command line, whose imports Ctrl-C may interrupt, too."""
    try:
        from obce.cli import main as run
    except KeyboardInterrupt:
        sys.exit("obce: interrupted")
    run()


if __name__ == "__main__":
    main()
