"""Worker: TRL's DPOTrainer trains. The only file that imports TRL."""

from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, TrainerCallback
from trl import DPOConfig, DPOTrainer

from comparison import memory
from comparison.jobs import Job, Measured, answer, digest, read_job
from comparison.machine import now
from comparison.search import climb


class Clock(TrainerCallback):
    """Starts after the warm-up epochs, stops after the last step. Loading of the data belongs to the steps."""

    def __init__(self, warmup_epochs: int):
        self.warmup_epochs, self.start, self.end = warmup_epochs, 0.0, 0.0

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if round(state.epoch or 0) == self.warmup_epochs:
            self.start = now()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == state.max_steps:
            self.end = now()


class TimedTrainer(DPOTrainer):
    """DPOTrainer that says how long its pass over the reference took."""

    reference_seconds: float | None = None

    def _precompute_ref_logps(self, *args: Any, **kwargs: Any) -> Any:
        start = now()
        result = super()._precompute_ref_logps(*args, **kwargs)
        self.reference_seconds = now() - start
        return result


def main() -> None:
    job = read_job()
    if not job.batch_sizes:
        answer(job, asdict(train(job)))
        return
    if torch.cuda.is_available():  # Triton compiles
        attempt(job, {"batch_size": job.batch_sizes[0], "precompute": True, "checkpointing": False})
    answer(job, climb(partial(attempt, job), job.batch_sizes))


def attempt(job: Job, settings: dict[str, Any]) -> dict[str, Any]:
    """One candidate of a search: its measurement, or why there is none."""
    try:
        return {"settings": settings, "measured": asdict(train(replace(job, settings=settings)))}
    except torch.OutOfMemoryError:
        return {"settings": settings, "measured": None, "why": "out of memory"}


def train(job: Job) -> Measured:
    baseline = memory.start_peak()
    trainer = build(job)
    clock = Clock(job.warmup_epochs)
    trainer.add_callback(clock)
    computed = count_tokens(trainer)
    trainer.train()
    log: dict[str, float] = next((row for row in trainer.state.log_history if "logps/chosen" in row), {})
    data = trainer.train_dataset
    # Of all workers, so that they go on with the same settings in a search.
    mine = torch.tensor([[clock.end - clock.start, memory.peak_gib(), float(sum(computed))]], dtype=torch.float64)
    everyone = trainer.accelerator.gather(mine.to(trainer.accelerator.device))
    seconds, peak, _ = everyone.amax(0).tolist()
    return Measured(
        seconds=seconds,
        reference_seconds=trainer.reference_seconds,
        baseline_gib=baseline,
        peak_gib=peak,
        computed_tokens=round(everyone[:, 2].sum().item()) // (job.warmup_epochs + job.epochs),
        inputs=digest(zip(data["prompt_ids"], data["chosen_ids"], data["rejected_ids"], strict=True)),
        loss=log.get("loss"),
        chosen_logps=log.get("logps/chosen"),
    )


def build(job: Job) -> TimedTrainer:
    """The trainer as its documentation starts it: a path, a data set, a configuration."""
    lora = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    # Full fine-tuning in bf16 keeps float32 weights and computes under autocast; LoRA's frozen base is held in bf16.
    dtype = "bfloat16" if job.precision == "bf16" and job.adapter == "lora" else "float32"
    other = AutoModelForCausalLM.from_pretrained(job.reference, dtype=dtype) if job.reference else None
    return TimedTrainer(
        model=job.model,
        ref_model=other,
        args=configuration(job, dtype),
        train_dataset=Dataset.from_json(job.pairs),
        peft_config=lora if job.adapter == "lora" else None,
    )


def configuration(job: Job, dtype: str) -> DPOConfig:
    batch = job.settings["batch_size"]
    return DPOConfig(
        output_dir=f"{job.folder}/outputs",
        model_init_kwargs={"dtype": dtype},
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        bf16=job.precision == "bf16",
        max_length=None,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=job.global_batch // (batch * job.workers),
        num_train_epochs=job.warmup_epochs + job.epochs,
        precompute_ref_log_probs=job.settings["precompute"],
        gradient_checkpointing=job.settings["checkpointing"],
        gradient_checkpointing_kwargs={"use_reentrant": False},
        optim="adamw_torch_fused",
        learning_rate=job.lr,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        max_grad_norm=1.0,
        beta=0.1,
        logging_strategy="steps",
        logging_steps=1 if job.reference else 10**6,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def count_tokens(trainer: TimedTrainer) -> list[int]:
    """Collects the tokens of every batch that is collated from now on, padding included."""
    collate, computed = trainer.data_collator, []

    def counting(examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = collate(examples)
        computed.append(batch["input_ids"].numel())
        return batch

    trainer.data_collator = counting
    return computed


if __name__ == "__main__":
    main()
