"""Second Read's models: images in, opinions out.

Importing this package makes its own architectures known to the Auto classes of `transformers`, so that
`AutoModelForImageClassification.from_pretrained(...)` loads them like any other; see `registration`.
"""

from xray_models.registration import register_when_needed

__version__ = "0.1.0"
register_when_needed()
