import pytest
import torch

from xray_models.cams import grad_cam, hires_cam
from xray_models.checkpoints import load_checkpoint
from xray_models.images import to_input


@pytest.fixture(scope="module", params=[0, 1, 2], ids=["simple_cnn", "resnet18", "vit_tiny"])
def model(request, untrained):
    return load_checkpoint(untrained, untrained.models[request.param])


def find_gradient(parts, inputs):
    """The last map of a whole model, and the gradient of the score of label 2 with respect to it."""
    features = parts.body(inputs).detach().requires_grad_()
    parts.head(features)[0, 2].backward()
    return parts.to_map(features.detach())[0], parts.to_map(features.grad)[0]


def test_grad_cam_on_the_head_is_grad_cam_on_the_whole_model(model, image):
    """Against the formula of Selvaraju et al., with the gradient through the full model."""
    inputs = to_input(image, model.spec)[None]
    grid, gradient = find_gradient(model.parts, inputs)
    expected = torch.relu((gradient.mean(dim=(2, 3), keepdim=True) * grid).sum(dim=1))[0]
    got = grad_cam(model.parts, inputs, 2, model.spec)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


def test_hires_cam_weighs_each_place_by_its_own_gradient(model, image):
    """Against the formula of Draelos & Carin; equal to Grad-CAM where one linear layer follows a mean."""
    inputs = to_input(image, model.spec)[None]
    grid, gradient = find_gradient(model.parts, inputs)
    expected = torch.relu((gradient * grid).sum(dim=1))[0]
    got = hires_cam(model.parts, inputs, 2, model.spec)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)
    if model.name == "resnet18":
        other = grad_cam(model.parts, inputs, 2, model.spec)
        assert got.max() > 0, "an empty map compares with nothing"
        torch.testing.assert_close(got / got.max(), other / other.max(), rtol=1e-3, atol=1e-4)
