"""Registers the compressed models with transformers' Auto classes, when this is imported."""

from __future__ import annotations

import transformers

from obce.modeling import AUTO_CLASSES, ObceBertConfig

transformers.AutoConfig.register(ObceBertConfig.model_type, ObceBertConfig, exist_ok=True)
for _name, _class in AUTO_CLASSES.items():
    getattr(transformers, _name).register(ObceBertConfig, _class, exist_ok=True)
