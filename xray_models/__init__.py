"""Second Read's models: images in, opinions out.

Importing this package registers its own architectures with the Auto classes of `transformers`, so that
`AutoModelForImageClassification.from_pretrained(...)` loads them like any other.
"""

from transformers import AutoConfig, AutoModelForImageClassification

from xray_models.architectures.simple_cnn import SimpleCnnConfig, SimpleCnnForImageClassification

AutoConfig.register(SimpleCnnConfig.model_type, SimpleCnnConfig)
AutoModelForImageClassification.register(SimpleCnnConfig, SimpleCnnForImageClassification)

__version__ = "0.1.0"
