import numpy as np
import pytest
import torch
from captum.attr import GradientShap, NoiseTunnel, Saliency

from tests.conftest import has_starters
from xray_models import attribution, phantom
from xray_models.architectures import build_model, split_model
from xray_models.checkpoints import load_checkpoint
from xray_models.images import from_pixels, to_input
from xray_models.panel import Panel
from xray_models.recipes import Recipe
from xray_models.tasks import TaskError


@pytest.fixture(scope="module", params=[0, 1, 2], ids=["simple_cnn", "resnet18", "vit_tiny"])
def model(request, untrained):
    return load_checkpoint(untrained, untrained.models[request.param])


@pytest.mark.parametrize("method", attribution.METHODS)
def test_a_heatmap_lies_on_the_images_own_grid(model, method):
    pixels = phantom.draw_phantom("Nodule", 3, size=200).pixels[:150]
    heatmap = attribution.explain(model, from_pixels(pixels), "Nodule", method)
    assert heatmap.values.shape == (150, 200)
    assert np.isfinite(heatmap.values).all()
    assert np.abs(heatmap.values).max() == pytest.approx(1, abs=1e-5) or not heatmap.values.any()
    assert heatmap.values.min() >= (-1 if heatmap.signed else 0)
    assert heatmap.signed == (method not in ("grad_cam", "hires_cam", "smooth_grad"))


def test_every_method_has_a_title():
    assert set(attribution.TITLES) == set(attribution.METHODS)
    assert attribution.DEFAULT in attribution.METHODS


def test_integrated_gradients_add_up_to_the_change_of_the_score(untrained, image, monkeypatch):
    monkeypatch.setattr(attribution, "STEPS", 64)
    model = load_checkpoint(untrained, untrained.models[2])
    inputs = to_input(image, model.spec)[None]
    black = attribution._plain(inputs, model.spec, 0.0)
    total = attribution.METHODS["integrated_gradients"](model.parts, inputs, 1, model.spec).sum()
    with torch.no_grad():
        score = [model.parts.head(model.parts.body(x))[0, 1] for x in (inputs, black)]
    assert float(total) == pytest.approx(float(score[0] - score[1]), abs=2e-4)


def test_smooth_grad_is_the_mean_gradient_of_noisy_copies(untrained, image, monkeypatch):
    """Against Captum's own, with as many copies as it takes: its noise differs, the mean does not."""
    monkeypatch.setattr(attribution, "DRAWS", 1500)
    model = load_checkpoint(untrained, untrained.models[0])
    inputs = to_input(image, model.spec)[None, :, ::4, ::4]
    spread = attribution.NOISE * float(inputs.max() - inputs.min())
    got = attribution.METHODS["smooth_grad"](model.parts, inputs, 1, model.spec)
    tunnel = NoiseTunnel(Saliency(lambda pixels: model.parts.head(model.parts.body(pixels))))
    expected = tunnel.attribute(
        inputs, "smoothgrad", nt_samples=1500, nt_samples_batch_size=100, stdevs=spread, target=1, abs=False
    )
    assert np.corrcoef(got.flatten(), expected[0].sum(dim=0).abs().flatten())[0, 1] > 0.95
    again = attribution.METHODS["smooth_grad"](model.parts, inputs, 1, model.spec)
    assert torch.equal(got, again)


def test_gradient_shap_adds_up_to_the_change_from_plain_images(untrained, image, monkeypatch):
    monkeypatch.setattr(attribution, "DRAWS", 512)
    model = load_checkpoint(untrained, untrained.models[0])
    inputs = to_input(image, model.spec)[None, :, ::4, ::4]
    greys = [attribution._plain(inputs, model.spec, (i + 0.5) / 64) for i in range(64)]
    plain = torch.cat(greys)
    got = attribution.METHODS["gradient_shap"](model.parts, inputs, 1, model.spec)
    with torch.no_grad():
        scores = [model.parts.head(model.parts.body(x))[:, 1] for x in (inputs, plain)]
    assert float(got.sum()) == pytest.approx(float(scores[0][0] - scores[1].mean()), abs=2e-3)
    captum = GradientShap(lambda pixels: model.parts.head(model.parts.body(pixels)))
    expected = captum.attribute(inputs, plain, n_samples=512, target=1)[0].sum(dim=0)
    assert np.corrcoef(got.flatten(), expected.flatten())[0, 1] > 0.95
    assert torch.equal(got, attribution.METHODS["gradient_shap"](model.parts, inputs, 1, model.spec))


@pytest.mark.parametrize("side", [1, 8, 13])
def test_occlusion_of_a_small_input_has_a_window(side):
    network, spec = build_model("simple_cnn", ["a", "b"], Recipe(image_size=side, width=0.25))
    inputs = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    plane = attribution.METHODS["occlusion"](split_model(network.eval()), inputs, 0, spec)
    assert plane.shape == (side, side)
    assert torch.isfinite(plane).all()


def test_occlusion_finds_the_place_that_the_score_comes_from(untrained):
    """A model whose score is the brightness of one corner."""

    class Corner(torch.nn.Module):
        def forward(self, pixels):
            return pixels[:, :, :64, 160:].mean(dim=(1, 2, 3), keepdim=True).expand(-1, 1, 1, 1)

    head = torch.nn.Linear(1, 4)
    torch.nn.init.ones_(head.weight)
    parts = attribution.Parts(Corner(), torch.nn.Flatten(), head)
    spec = load_checkpoint(untrained, untrained.models[0]).spec
    inputs = torch.zeros(1, 3, 224, 224)
    inputs[:, :, :64, 160:] = 1
    plane = attribution.METHODS["occlusion"](parts, inputs, 0, spec)
    rows, columns = np.nonzero(plane.numpy() > 0.5 * float(plane.max()))
    assert rows.max() < 96
    assert columns.min() > 128


@pytest.mark.parametrize("method", ["grad_cam", "hires_cam"])
def test_features_that_the_panel_kept_give_the_same_map(untrained, image, method, monkeypatch):
    panel, features = Panel.load(untrained, device="cpu"), {}
    opinions = list(panel.ask(image, features))
    assert list(features) == [opinion.model for opinion in opinions]
    for name, member in panel.checkpoints.items():
        expected = attribution.explain(member, image, "Nodule", method).values
        with monkeypatch.context() as patch:
            patch.setattr(member.parts.body, "forward", lambda *_: pytest.fail("computed again"))
            kept = attribution.explain(member, image, "Nodule", method, features[name]).values
        np.testing.assert_allclose(kept, expected, atol=1e-5)


@pytest.mark.parametrize("method", ["integrated_gradients", "gradient_shap", "smooth_grad", "occlusion"])
def test_a_long_method_can_be_ended(untrained, image, method):
    member, asked = load_checkpoint(untrained, untrained.models[0]), []

    def step(share):
        asked.append(share)
        if len(asked) == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        attribution.explain(member, image, "Nodule", method, step=step)
    assert len(asked) == 2
    shares = []
    calm = attribution.explain(member, image, "Nodule", method, step=shares.append)
    assert shares[0] == 0 and shares == sorted(shares) and 0.7 < shares[-1] <= 1 and len(shares) >= 4
    assert np.array_equal(calm.plane, attribution.explain(member, image, "Nodule", method).plane)


def test_unknown_methods_and_labels_are_named(model, image):
    with pytest.raises(TaskError, match="Valid: grad_cam"):
        attribution.explain(model, image, "Nodule", "gradcam")
    with pytest.raises(TaskError, match="Valid: Normal"):
        attribution.explain(model, image, "nodule")


def test_the_best_cnn_looks_at_the_lesion():
    """On phantoms the place of each lesion is known: the Grad-CAM maximum of correct calls lies in it."""
    if not has_starters("phantom"):
        pytest.skip("no starter models of phantom")
    panel = Panel.load("phantom", device="cpu")
    cnns = [c for c in panel.checkpoints.values() if c.parts.prefix is None]
    best = max(cnns, key=lambda c: c.model.config.second_read["test"]["accuracy"])
    inside = list(point_at_lesions(panel, best.name, "grad_cam", 120))
    assert len(inside) >= 90
    assert np.mean(inside) >= 0.9


def test_the_vit_looks_at_the_lesion_by_hires_cam():
    """Its class token takes what it needs from each place: Grad-CAM's mean over places loses that."""
    if not has_starters("phantom"):
        pytest.skip("no starter models of phantom")
    panel = Panel.load("phantom", ["vit_tiny"], device="cpu")
    inside = list(point_at_lesions(panel, "vit_tiny", "hires_cam", 40))
    assert len(inside) >= 30
    assert np.mean(inside) >= 0.75
    assert np.mean(list(point_at_lesions(panel, "vit_tiny", "grad_cam", 20))) < 0.3


def point_at_lesions(panel, name, method, count):
    """Whether the map's maximum lies in the lesion, for each of `count` phantoms that the model calls right."""
    member = panel.checkpoints[name]
    for seed in range(900_000, 900_000 + count):  # far from the training set's seeds
        drawn = phantom.draw_phantom(phantom.LABELS[1 + seed % 3], seed)
        image = from_pixels(drawn.pixels)
        if Panel(panel.task, [member]).read(image).opinions[0].label == drawn.label:
            yield drawn.mask[attribution.explain(member, image, drawn.label, method).peak]
