"""Timed comparisons: ``python -m benchmarks.NAME`` from the root; ``benchmarks.run`` runs all."""
