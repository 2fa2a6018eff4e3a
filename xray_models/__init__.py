"""Second Read's models: images in, opinions out.

Importing this package registers its own architectures with the Auto classes of `transformers`, so that
`AutoModelForImageClassification.from_pretrained(...)` loads them like any other.
"""

from transformers import AutoConfig, AutoModelForImageClassification

from xray_models.architectures.bone_cnn import BoneCnnConfig, BoneCnnForImageClassification
from xray_models.architectures.fusion import FusionConfig, FusionForImageClassification
from xray_models.architectures.headed import HeadedConfig, HeadedForImageClassification
from xray_models.architectures.simple_cnn import SimpleCnnConfig, SimpleCnnForImageClassification

AutoConfig.register(SimpleCnnConfig.model_type, SimpleCnnConfig)
AutoModelForImageClassification.register(SimpleCnnConfig, SimpleCnnForImageClassification)
AutoConfig.register(BoneCnnConfig.model_type, BoneCnnConfig)
AutoModelForImageClassification.register(BoneCnnConfig, BoneCnnForImageClassification)
AutoConfig.register(HeadedConfig.model_type, HeadedConfig)
AutoModelForImageClassification.register(HeadedConfig, HeadedForImageClassification)
AutoConfig.register(FusionConfig.model_type, FusionConfig)
AutoModelForImageClassification.register(FusionConfig, FusionForImageClassification)

__version__ = "0.1.0"
