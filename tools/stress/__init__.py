"""Killed jobs, broken files, full disks, foreign checkpoints, no network: what obce makes of them.

``python -m tools.stress`` counts it, in minutes; ``tests/test_stress.py`` does it in seconds.
"""
