"""What builds, runs, prints and checks the book: ``python -m tools.NAME`` from the root."""
