"""Flags for tests: a task, images, a ledger's rows and the opinions in them."""

from xray_models import phantom
from xray_models.flags import Flag
from xray_models.images import from_pixels
from xray_models.tasks import load_task

TASK = load_task("phantom")
IMAGES = [from_pixels(phantom.draw_phantom("Nodule", seed, 64).pixels) for seed in range(3)]


def add(ledger, image, label, reader="AB", **more):
    flag = Flag(reader=reader, task="phantom", corrected_label=label, image_sha256=image.sha256, **more)
    return ledger.append(flag, image, TASK)


def opinion(label):
    return {"label": label, "probs": dict.fromkeys(TASK.labels, 0.25), "revision": "r"}
