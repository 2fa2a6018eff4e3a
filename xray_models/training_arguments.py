"""A recipe in the words of transformers' TrainingArguments."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, TrainingArguments

from xray_models.policies import POLICIES
from xray_models.precision import bf16_helps
from xray_models.recipes import Recipe, share_batch

_HEAVY = 1_000_000  # parameters
_MANY = 10  # batches of an epoch
_SCHEDULES = {"cosine": "cosine", "plateau": "reduce_lr_on_plateau", "constant": "constant_with_warmup"}


def count_workers(model: Any, images: int, recipe: Recipe) -> int:
    """Processes that prepare the next batches while the network learns; they change no result.

    Beside a GPU as many as there are cores. On a CPU none, since a batch is varied as a whole by the cores that learn
    from it; but one where images go through AutoAugment, each by itself: not for a small network, whose step takes no
    longer than that, or for few images, since it begins anew every epoch.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # not on every system
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    spare = cores // int(os.environ.get("WORLD_SIZE", 1)) - 1
    if torch.cuda.is_available():
        return max(0, min(8, spare))
    heavy = isinstance(model, PreTrainedModel) and model.num_parameters() >= _HEAVY
    single = POLICIES[recipe.augment].auto or recipe.balance == "copies"
    return max(0, min(1, spare)) if single and heavy and images >= _MANY * recipe.batch_size else 0


def build_arguments(recipe: Recipe, out: Path, seed: int, workers: int) -> TrainingArguments:
    """What the Trainer is told.

    Args:
        recipe: how to train.
        out: folder of the Trainer's checkpoints.
        seed: of the order of the images.
        workers: processes that prepare batches, from `count_workers`.

    Raises:
        TaskError: where the processes that train cannot share a batch evenly.
    """
    gpu, processes = torch.cuda.is_available(), int(os.environ.get("WORLD_SIZE", 1))
    plateau = recipe.schedule == "plateau"
    arguments = TrainingArguments(
        output_dir=str(out),
        num_train_epochs=recipe.epochs,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        per_device_train_batch_size=share_batch(recipe.batch_size, processes),
        per_device_eval_batch_size=2 * recipe.batch_size,
        lr_scheduler_type=_SCHEDULES[recipe.schedule],
        lr_scheduler_kwargs={"factor": 0.5, "patience": 1} if plateau else {},
        warmup_steps=0 if plateau else recipe.warmup,  # a share of the steps, of any size of batch
        bf16=bf16_helps(),
        use_cpu=not gpu,
        ddp_backend=None if gpu or processes == 1 else "gloo",
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="calibrated_log_loss",
        greater_is_better=False,
        logging_strategy="epoch",
        report_to=[] if recipe.log == "none" else [recipe.log],
        label_names=["labels"],
        seed=seed,
        dataloader_num_workers=workers,
        dataloader_pin_memory=gpu,
    )
    if arguments.n_gpu > 1:  # else each would take a whole batch, and batch norms a part; `accelerate launch` uses all
        arguments._n_gpu = 1
    return arguments
