"""Studies: grids of runs from one small file, cell by cell, and their statistics."""
