import torch

from xray_models.batches import Batch
from xray_models.images import InputSpec, normalise, to_uint8


def test_each_geometry_is_resized_once(image, monkeypatch):
    asked = []
    monkeypatch.setattr("xray_models.batches.to_uint8", lambda image, spec: asked.append(spec) or to_uint8(image, spec))
    batch = Batch([image])
    specs = [InputSpec(32, 32), InputSpec(32, 32, mean=(0.1,), std=(0.3,)), InputSpec(48, 48)]
    batch.resize(specs)
    for spec in specs:
        assert torch.equal(batch.prepare(spec), normalise(to_uint8(image, spec), spec)[None])
    assert sorted(spec.height for spec in asked) == [32, 48]
