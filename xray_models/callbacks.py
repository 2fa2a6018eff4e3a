"""What the Trainer calls while it trains."""

from __future__ import annotations

import time
from typing import Any

from transformers import ProgressCallback, TrainerCallback, TrainingArguments

from xray_models.imagesets import ImageSet


class Epochs(TrainerCallback):
    """Tells the training set which epoch begins."""

    def __init__(self, images: ImageSet):
        self.images = images

    def on_epoch_begin(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Says which epoch it is, by what was trained so far."""
        self.images.set_epoch(int(state.epoch or 0))


class Progress(ProgressCallback):
    """The Trainer's progress bar, with images per second."""

    def __init__(self, max_str_len: int = 100):
        super().__init__(max_str_len)
        self._clock: tuple[float, int] | None = None

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Advances the bar."""
        super().on_step_end(args, state, control, **kwargs)
        now = time.perf_counter()
        if self._clock and self.training_bar is not None and state.global_step % 5 == 0:
            seconds, steps = now - self._clock[0], state.global_step - self._clock[1]
            rate = steps * args.train_batch_size * args.world_size / seconds
            self.training_bar.set_postfix_str(f"{rate:.0f} images/s")
        self._clock = self._clock or (now, state.global_step)
