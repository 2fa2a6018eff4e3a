"""How a model is used without the reading room: the part of its card that says so, by the kind of its network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xray_models.architectures import find_architecture

_PLAIN = """\
With `torch`, `transformers` and `timm` installed, and this folder, or `owner/name` of this repository, as
FOLDER:

```python
from transformers import pipeline

classify = pipeline("image-classification", model="FOLDER")
print(classify("image.png"))
```"""

_OWN = """\
The network is one of Second Read's own. In Second Read's environment, with this folder, or `owner/name` of this
repository, as FOLDER:

```python
import xray_models  # makes its networks known to transformers
from transformers import pipeline

classify = pipeline("image-classification", model="FOLDER")
print(classify("image.png"))
```

Without Second Read, a repository of the Hub that `python -m xray_models.hub push` made loads with
`trust_remote_code=True` in place of that import, which runs the repository's `{module}` on your machine: read it
first.{members}"""

_MEMBERS = " The members' networks must be of transformers or timm."

_PANEL = """\
This gives calibrated probabilities of an 8-bit picture. The panel reads all bits, and DICOM, asks all models
of the task, and says which labels are not ruled out and whether an image is unlike the training images:

```sh
python -m xray_models.read IMAGE --task {task}
```"""


def describe_usage(task: str, info: Mapping[str, Any]) -> str:
    """What a card says of how to use a model.

    Args:
        task: the task's name.
        info: the `second_read` entry of its `config.json`.

    Returns:
        Markdown without a heading.
    """
    module = _find_module(info["architecture"], info["recipe"].get("head", "linear"))
    members = _MEMBERS if module == "fusion.py" else ""
    said = _OWN.format(module=module, members=members) if module else _PLAIN
    return f"{said}\n\n{_PANEL.format(task=task)}"


def _find_module(architecture: str, head: str) -> str:
    """The file with the network of a model's whole; "" where transformers or timm has it."""
    if find_architecture(architecture).own_head:
        return f"{architecture.partition('_v')[0]}.py"
    return "headed.py" if head == "dense" else ""
