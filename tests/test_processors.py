"""Image processors of transformers as inputs of ours: the same picture, or a refusal."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import BitImageProcessorPil, ViTImageProcessorPil

from xray_models.images import InputSpec, from_pixels, to_input
from xray_models.processors import read_processor
from xray_models.tasks import TaskError

VIT = {"size": {"height": 64, "width": 48}}
BIT = {"size": {"shortest_edge": 80}, "crop_size": {"height": 64, "width": 64}}


@pytest.mark.parametrize(
    "processor",
    [
        ViTImageProcessorPil(**VIT),
        ViTImageProcessorPil(**VIT, do_normalize=False),
        ViTImageProcessorPil(**VIT, resample=0, image_mean=[0.1, 0.2, 0.3]),
        BitImageProcessorPil(**BIT),
    ],
    ids=["squashed", "plain", "nearest", "cropped"],
)
def test_the_input_is_that_of_the_processor(processor, image):
    spec = read_processor(processor.to_dict())
    picture = Image.fromarray(image.pixels).convert("RGB")
    theirs = torch.as_tensor(np.asarray(processor(picture)["pixel_values"][0]))
    ours = to_input(image, spec)
    assert ours.shape[-2:] == theirs.shape[-2:]
    deviation = torch.tensor(spec.std)[:, None, None]
    assert ((ours.reshape(theirs.shape) - theirs) * deviation).abs().max() <= 1 / 255 + 1e-6


@pytest.mark.parametrize("shape", [(304, 207), (207, 304), (331, 250), (256, 259), (500, 511)])
@pytest.mark.parametrize(("short", "cut"), [(80, 64), (256, 224), (93, 16), (64, 64)])
def test_a_cut_lies_where_the_processor_cuts(shape, short, cut):
    plane = np.add.outer(np.arange(shape[0]), 2 * np.arange(shape[1])) * (255 / (shape[0] + 2 * shape[1]))
    picture = Image.fromarray(plane.astype(np.uint8))
    sides = {"size": {"shortest_edge": short}, "crop_size": {"height": cut, "width": cut}}
    processor = BitImageProcessorPil(**sides)
    theirs = np.asarray(processor(picture.convert("RGB"))["pixel_values"][0])
    spec = read_processor(processor.to_dict())
    ours = to_input(from_pixels(np.asarray(picture)), spec).numpy()
    assert np.abs((ours - theirs) * np.array(spec.std)[:, None, None]).max() <= 1 / 255 + 1e-6


def test_a_fine_tune_takes_the_whole_image():
    assert read_processor(BitImageProcessorPil(**BIT).to_dict(), whole=True).fit == "squash"
    edge = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2, "size": {"shortest_edge": 64}}
    assert read_processor(edge, whole=True) == InputSpec(64, 64, resample="bilinear")
    assert read_processor(edge | {"size": 64}) == InputSpec(64, 64, resample="bilinear")  # as it was written once


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"rescale_factor": 1 / 127.5}, "scales pixels by 0.0078"),
        ({"do_rescale": False}, "scales pixels by 1.0"),
        ({"do_resize": False}, "resizes to nothing"),
        ({"size": {"shortest_edge": 64}}, "resizes to {'shortest_edge': 64}"),
        ({"size": {"longest_edge": 64}}, "resizes to {'longest_edge': 64}"),
        ({"do_center_crop": True}, "lacks 'crop_size'"),
        ({"do_center_crop": True, "crop_size": 40}, "a square centre crop"),
        ({"do_center_crop": True, "crop_size": {"height": 40, "width": 30}, "size": {"shortest_edge": 64}}, "square"),
    ],
)
def test_what_the_panel_cannot_do_is_refused(fault, reason):
    with pytest.raises(TaskError, match=reason):
        read_processor(ViTImageProcessorPil(**VIT).to_dict() | fault)


def test_what_is_not_said_is_named():
    raw = ViTImageProcessorPil(**VIT).to_dict()
    del raw["image_mean"]
    with pytest.raises(TaskError, match="lacks 'image_mean'"):
        read_processor(raw)
