import dataclasses

import pytest
import torch
from torch import nn
from transformers import AutoModelForImageClassification

from xray_models.architectures import build_model, split_model
from xray_models.architectures.headed import HeadedForImageClassification
from xray_models.recipes import Recipe

LABELS = ["a", "b", "c d"]
DENSE = Recipe(head="dense", image_size=64)
NAMES = ["simple_cnn", "bone_cnn_v1", "resnet18", "vit_tiny", "timm:swin_tiny_patch4_window7_224"]


@pytest.fixture(scope="module", params=NAMES)
def dense(request):
    torch.manual_seed(0)
    width = 0.125 if request.param == "resnet18" else 1.0
    model, _ = build_model(request.param, LABELS, dataclasses.replace(DENSE, width=width))
    return model.eval()


@torch.inference_mode()
def test_a_dense_head_survives_saving_and_loading(dense, tmp_path):
    inputs = torch.randn(2, 3, 64, 64)
    logits = dense(pixel_values=inputs).logits
    dense.save_pretrained(tmp_path)
    again = AutoModelForImageClassification.from_pretrained(tmp_path, use_safetensors=True).eval()
    torch.testing.assert_close(again(pixel_values=inputs).logits, logits)
    parts = split_model(again)
    features = parts.body(inputs)
    torch.testing.assert_close(parts.head(features), logits, atol=1e-5, rtol=1e-5)
    assert parts.to_map(features)[0].shape[2] >= 2
    assert again.config.id2label == dict(enumerate(LABELS))


def test_a_dense_head_is_what_the_recipe_says(dense):
    head = list(dense.head)
    assert [type(layer) for layer in head[:3]] == [nn.Linear, nn.BatchNorm1d, nn.ReLU]
    assert head[0].out_features == 256
    assert split_model(dense).classifier.weight.shape == (3, 256)
    assert 0.5 in {module.p for module in dense.modules() if isinstance(module, nn.Dropout)}


def test_a_dense_head_sits_on_the_weights_that_it_was_given():
    torch.manual_seed(0)
    plain, _ = build_model("resnet18", LABELS, dataclasses.replace(DENSE, width=0.125, head="linear"))
    torch.manual_seed(0)
    dense, _ = build_model("resnet18", LABELS, dataclasses.replace(DENSE, width=0.125))
    assert isinstance(dense, HeadedForImageClassification)
    expected = plain.state_dict()
    found = dense.body.state_dict()
    assert set(expected) - set(found) == {"timm_model.fc.weight", "timm_model.fc.bias"}
    assert all(torch.equal(found[name], expected[name]) for name in found)


def test_a_dense_head_learns():
    torch.manual_seed(0)
    model, _ = build_model("resnet18", LABELS, dataclasses.replace(DENSE, width=0.125, dropout=0.1))
    inputs, labels = torch.randn(12, 3, 64, 64), torch.arange(12) % 3
    optimizer = torch.optim.Adam(model.train().parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        loss = model(pixel_values=inputs, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 3


@pytest.mark.parametrize(
    ("name", "head", "asked", "has"),
    [
        ("simple_cnn", "linear", None, 0.2),
        ("simple_cnn", "linear", 0.0, 0.0),
        ("simple_cnn", "dense", None, 0.5),
        ("simple_cnn", "dense", 0.0, 0.0),
        ("resnet18", "dense", None, 0.5),
        ("resnet18", "dense", 0.0, 0.0),
        ("resnet18", "dense", 0.1, 0.1),
    ],
)
def test_no_dropout_is_another_wish_than_none_at_all(name, head, asked, has):
    """A search, too, says 0 of a training without dropout."""
    model, _ = build_model(name, LABELS, Recipe(head=head, dropout=asked, image_size=64, width=0.125))
    assert model.config.dropout == has


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny"])
def test_dropout_acts_in_training_and_leaves_no_trace_in_what_is_saved(name, tmp_path):
    recipe = Recipe(dropout=0.5, image_size=64, width=0.125 if name == "resnet18" else 1.0)
    model, _ = build_model(name, LABELS, recipe)
    classifier = split_model(model).classifier
    nn.init.normal_(classifier.weight)
    embedding = torch.randn(1, classifier.in_features)
    model.train()
    assert not torch.equal(classifier(embedding), classifier(embedding))
    model.eval()
    assert torch.equal(classifier(embedding), classifier(embedding))
    model.save_pretrained(tmp_path)
    again = AutoModelForImageClassification.from_pretrained(tmp_path)
    assert type(again).__module__.startswith("transformers.")
    assert set(again.state_dict()) == set(model.state_dict())
