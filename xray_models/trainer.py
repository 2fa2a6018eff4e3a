"""The Hugging Face Trainer as the recipes want it: loss, balance, optimizer, mixup, moving average, stages."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from timm.layers import convert_sync_batchnorm
from torch import nn
from torch.utils.data import DataLoader, Sampler
from torchvision.transforms import v2
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    ProgressCallback,
    Trainer,
    TrainerState,
)

from xray_models.architectures import split_model
from xray_models.architectures.fusion import FusionForImageClassification
from xray_models.averaging import AVERAGE, Average
from xray_models.calibration import fit_temperature, log_loss
from xray_models.callbacks import Epochs, Progress
from xray_models.checkpoints import list_labels
from xray_models.imagesets import BalancedSampler, ImageSet, class_weights, collate
from xray_models.optimizers import OPTIMIZERS, group_parameters
from xray_models.recipes import Recipe
from xray_models.tasks import TaskError
from xray_models.teaching import Teacher, learn_from
from xray_models.training_arguments import build_arguments, count_workers


class RecipeTrainer(Trainer):
    """A Trainer that follows a recipe; everything that the recipe does not name is transformers' own."""

    def __init__(self, *args: Any, recipe: Recipe, teacher: Teacher | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.recipe, self.teacher = recipe, teacher
        trained: Any = self.model
        self.labels, classes = kwargs["train_dataset"].labels, len(list_labels(trained))
        self.weights = class_weights(self.labels, classes) if recipe.balance == "loss" else np.ones(classes)
        self.mixup = v2.MixUp(alpha=recipe.mixup, num_classes=classes) if recipe.mixup else None
        self.average: Average | None = None
        if recipe.ema:
            self.average = Average(trained, recipe.ema)
            self.add_callback(self.average)

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Cross-entropy, weighted by class, and in training the teacher's part.

        Its mean over the batch is the same on any number of processes.
        """
        pixels, labels = inputs["pixel_values"], inputs["labels"]
        if model.training:
            _rest_frozen_norms(model)
            if self.mixup:
                pixels, labels = self.mixup(pixels, labels)
        outputs = model(pixel_values=pixels)
        weight = torch.tensor(self.weights, dtype=torch.float32, device=pixels.device)
        loss = nn.functional.cross_entropy(
            outputs["logits"].float(),
            labels,
            weight,
            label_smoothing=self.recipe.label_smoothing if model.training else 0.0,
            reduction="sum",
        )
        if self.teacher and model.training:
            taught = learn_from(self.teacher(pixels), outputs["logits"])
            loss = (1 - self.recipe.teaching) * loss + self.recipe.teaching * taught
        loss = loss / len(pixels)
        return (loss, {"logits": outputs["logits"]}) if return_outputs else loss

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Varies a batch and makes it what the model takes, on the device that the model computes on."""
        inputs = super()._prepare_inputs(inputs)
        images: Any = self.train_dataset
        return images.prepare(inputs)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The recipe's optimizer, with lower rates for lower layers where it asks for them."""
        if self.optimizer is None:
            model = model or self.accelerator.unwrap_model(self.model)
            decaying = set(self.get_decay_parameter_names(model))
            kind, options = OPTIMIZERS[self.recipe.optimizer](self.args.learning_rate)
            groups = group_parameters(model, decaying, self.args, self.recipe.layer_decay)
            self.optimizer = kind(groups, **options)
        return self.optimizer

    def get_train_dataloader(self) -> DataLoader:
        """The training batches, without a last one of a single image: a batch norm learns nothing from it.

        Only these: what is dropped for the Trainer as a whole is dropped from validation, too.
        """
        step = self._train_batch_size * self.args.world_size
        images: Any = self.train_dataset
        self.args.dataloader_drop_last = len(images) % step == 1
        try:
            return super().get_train_dataloader()
        finally:
            self.args.dataloader_drop_last = False

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler | None:
        if self.recipe.balance != "sampler":
            return super()._get_train_sampler(train_dataset)
        return BalancedSampler(self.labels, self.args.seed)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluates the moving average where there is one.

        Raises:
            TaskError: when training has diverged before any epoch was worth keeping.
        """
        with self.average.in_place() if self.average else contextlib.nullcontext():
            metrics = super().evaluate(*args, **kwargs)
        lost = not math.isfinite(metrics["eval_log_loss"]) and self.state.best_model_checkpoint is None
        if lost and not self.state.is_hyper_param_search:
            raise TaskError(
                f"After epoch {self.state.epoch:.0f} the model's logits are not finite: training has diverged at a "
                f"learning rate of {self.args.learning_rate:g}. Lower --learning-rate."
            )
        return metrics

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Loads weights by way of `from_pretrained`, every key of them.

        The Trainer's own way compares names as they are on the disk with those of the model; where transformers
        renames weights on saving (ViT), it would keep the last epoch's body and say so in a warning only.
        """
        own = self.accelerator.unwrap_model(self.model)
        saved = type(own).from_pretrained(resume_from_checkpoint, dtype=torch.float32, local_files_only=True)
        own.load_state_dict(saved.state_dict())

    def _load_best_model(self) -> None:
        self._load_from_checkpoint(str(self._best))

    @property
    def _best(self) -> Path:
        """The best epoch's checkpoint, also where the folder was moved, or is another seen from here."""
        own = Path(str(self.args.output_dir)) / Path(str(self.state.best_model_checkpoint)).name
        return own if own.is_dir() else Path(str(self.state.best_model_checkpoint))

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Saves the average with the weights: a checkpoint that has its state, which comes last, has all.

        The Trainer asks every process, of which one writes.
        """
        super()._save(output_dir, state_dict)
        if self.average is not None and output_dir is not None and self.args.should_save:
            self.average.save(Path(output_dir))

    def go_on(self, checkpoint: str | None) -> None:
        """Trains; from a checkpoint on as if it had not been interrupted, and not at all if it had come to its end.

        Args:
            checkpoint: folder of one of the Trainer's checkpoints; None for the beginning.
        """
        if checkpoint is None:
            self.train()
            return
        state = TrainerState.load_from_json(str(Path(checkpoint) / "trainer_state.json"))
        if state.stateful_callbacks["TrainerControl"]["args"]["should_training_stop"]:
            self.state = state
            self._load_best_model()
            return
        waited = state.stateful_callbacks["EarlyStoppingCallback"]["attributes"]["early_stopping_patience_counter"]
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, EarlyStoppingCallback):
                callback.early_stopping_patience_counter = waited
        if self.average is not None:
            self.average.resume(checkpoint)
        self.train(resume_from_checkpoint=checkpoint)

    def finish(self) -> PreTrainedModel:
        """Returns the best epoch's model, in single precision: its moving average where there is one."""
        model = self.accelerator.unwrap_model(self.model).float()
        if self.average is not None and self.state.best_model_checkpoint:
            model.load_state_dict(load_file(self._best / AVERAGE))
        return model


def freeze_body(model: PreTrainedModel) -> None:
    """Leaves only the classifier, and a head before it, to be trained; of a fusion its small network."""
    model.requires_grad_(False)
    split_model(model).classifier.requires_grad_(True)
    for name, module in model.named_modules():
        if name == "head" or (isinstance(model, FusionForImageClassification) and name in ("norm", "hidden")):
            module.requires_grad_(True)


def _rest_frozen_norms(model: nn.Module) -> None:
    """Keeps frozen batch norms at the statistics that they came with."""
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and weight is not None and not weight.requires_grad:
            module.eval()


def build_trainer(
    model: PreTrainedModel | Callable[[Any], PreTrainedModel],
    sets: dict[str, ImageSet],
    recipe: Recipe,
    out: Path,
    seed: int,
    teacher: Teacher | None = None,
) -> RecipeTrainer:
    """Builds the Trainer that a recipe describes; its checkpoints go into `out`.

    On several processes, each takes its share of `recipe.batch_size`.

    Args:
        model: what is trained, or, for a search, what builds it anew for each trial.
        sets: "train" and "validation".
        recipe: how.
        out: folder for the Trainer's checkpoints.
        seed: of the order of the images.
        teacher: whose opinions the model learns, besides the labels.

    Raises:
        TaskError: when the recipe logs to a package that is not installed, or its batches are too small.
    """
    if recipe.log != "none" and importlib.util.find_spec(recipe.log) is None:
        raise TaskError(f"log is {recipe.log!r}, which is not installed here: pip install {recipe.log}")
    trainer = RecipeTrainer(
        model=_prepare(model) if isinstance(model, PreTrainedModel) else None,
        model_init=None if isinstance(model, PreTrainedModel) else lambda trial: _prepare(model(trial)),
        args=build_arguments(recipe, out, seed, count_workers(model, len(sets["train"]), recipe)),
        data_collator=collate,
        train_dataset=sets["train"],
        eval_dataset=sets["validation"],
        compute_metrics=_validation_metrics,
        callbacks=[EarlyStoppingCallback(early_stopping_patience=recipe.patience), Epochs(sets["train"])],
        recipe=recipe,
        teacher=teacher,
    )
    if trainer.args.per_device_train_batch_size == 1 and isinstance(model, PreTrainedModel):
        _check_norms(model, recipe)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(Progress())
    return trainer


def _check_norms(model: PreTrainedModel, recipe: Recipe) -> None:
    """Refuses batches of one image for a model with a batch norm behind its pooling."""
    if any(isinstance(module, nn.BatchNorm1d) for module in model.modules()):
        raise TaskError(
            f"batch_size is {recipe.batch_size}, one image at a time for each process; this model's head has a batch "
            "norm, which needs at least 2. Raise --batch-size."
        )


def _prepare(model: PreTrainedModel) -> PreTrainedModel:
    """Makes a model ready to be trained here; of several GPUs, each has the batch norms of the whole batch.

    timm's conversion, since torch's own would leave out the activations that many of timm's batch norms hold.
    """
    gpu = torch.cuda.is_available()
    nn.Module.to(model, memory_format=torch.channels_last)
    if not gpu and model.config.model_type == "vit":
        model.set_attn_implementation("eager")  # 1.15 times the images per second of sdpa on a CPU
    converted = any(isinstance(module, nn.SyncBatchNorm) for module in model.modules())  # by the stage before
    if gpu and int(os.environ.get("WORLD_SIZE", 1)) > 1 and not converted:
        model = convert_sync_batchnorm(model)
    return model


def _validation_metrics(prediction: Any) -> dict[str, float]:
    """The best epoch is chosen as it would be shipped, after temperature scaling.

    Without that, a network that separates the labels better, but is too sure of itself, loses to an earlier epoch
    (Berta et al., 2025, "Rethinking early stopping: refine, then calibrate").
    """
    logits, labels = prediction.predictions.astype(np.float64), prediction.label_ids
    calibrated = logits / fit_temperature(logits, labels)
    return {
        "log_loss": log_loss(logits, labels),
        "calibrated_log_loss": log_loss(calibrated, labels),
        "accuracy": float((logits.argmax(axis=1) == labels).mean()),
    }
