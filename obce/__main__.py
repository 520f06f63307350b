"""``python -m obce``: the command line, also under ``torchrun -m obce``."""

from obce.cli import main

main()
