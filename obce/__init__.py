"""Compress and explain BERT by the persistent homology of its neurons (OBCE, arXiv 2312.10702).

The way of the data: texts -> activations -> clouds -> H0 deaths -> scores -> plan -> compressed
model -> repair -> metrics. ``__init__.pyi`` lists the public names; each is imported where it is
first used.
"""

import sys as _sys
from pathlib import Path as _Path

import lazy_loader as _lazy

__version__ = "0.2.0"
__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)

# After ``import obce``, the Auto classes of transformers load compressed models. The command
# ``obce`` (and ``python -m obce``) does without, so that it answers --help before torch is loaded;
# its jobs come to the same by way of obce.running.loading.
if _Path((_sys.argv or [""])[0]).stem not in ("obce", "-m"):
    from obce.running import auto as _auto  # noqa: F401
