"""What a user sees on stderr: the trainer's own lines, and of the libraries only what the user can act on."""

import logging
import os
import sys
import warnings

from dpo.redact import hide_on_screen

LOGGER = "dpo"

# Read by the libraries at import, hence set before it. Only defaults: a user who sets one of them gets their way.
_QUIET_ENVIRONMENT = {
    "TORCH_CPP_LOG_LEVEL": "ERROR",  # c10d's socket and NCCL chatter
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "DATASETS_VERBOSITY": "error",
    "HF_HUB_VERBOSITY": "error",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "ACCELERATE_LOG_LEVEL": "error",
    # Any value stops the warning about forks. "false" because a tokenizer's thread pool in a forked worker deadlocks.
    "TOKENIZERS_PARALLELISM": "false",
    # Else a model without safetensors makes transformers ask a public service, in a thread, to convert it (5.23).
    "DISABLE_SAFETENSORS_CONVERSION": "1",
}
# Deprecations and hints inside these packages are between their authors; the run pins the versions that work.
_NOISY_MODULES = r"(torch|deepspeed|transformers|accelerate|peft|datasets|huggingface_hub)(\.|$)"
_NO_HUB_BARS = "HF_HUB_DISABLE_PROGRESS_BARS"
_NOISY_LOGGERS = ("DeepSpeed", "accelerate", "torch.distributed", "torch.utils.cpp_extension", "matplotlib", "filelock")


class _Format(logging.Formatter):
    """`[dpo] message`, with the level named from warning on."""

    def format(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        text = f"[{LOGGER}] {level}{record.getMessage()}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


def setup_logging(is_main: bool) -> None:
    """Send logger "dpo" to stderr, INFO on the main worker and ERROR on the others, quiet the libraries, and keep keys
    off the screen.

    Call it first in a process, before torch and transformers are imported; libraries imported earlier are quieted as
    far as they allow it. Calling it again changes the level only.
    """
    for name, value in _QUIET_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    hide_on_screen()
    logger = logging.getLogger(LOGGER)
    logger.setLevel(logging.INFO if is_main else logging.ERROR)
    logger.propagate = False  # the root logger belongs to whoever configures it: each line once
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_Format())
        logger.addHandler(handler)
    _quiet_loggers()
    _quiet_warnings()
    _quiet_bars(is_main)


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


def _quiet_loggers() -> None:
    """Errors only. DeepSpeed sets its logger's level when it is imported; a filter on the logger outlives that."""
    for name in _NOISY_LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel(logging.ERROR)
        logger.addFilter(_is_error)  # the same function again is not added twice


def _quiet_warnings() -> None:
    """Hide Python warnings of the libraries, unless the user asked for warnings (-W, PYTHONWARNINGS)."""
    if sys.warnoptions:
        return
    for category in (FutureWarning, DeprecationWarning, UserWarning):
        warnings.filterwarnings("ignore", category=category, module=_NOISY_MODULES)


def _quiet_bars(is_main: bool) -> None:
    """No bars of libraries, apart from a hub download on the main worker's terminal: minutes that must be seen."""
    if not (is_main and sys.stderr.isatty()):
        os.environ.setdefault(_NO_HUB_BARS, "1")  # transformers reads it too, at import
    if "transformers" in sys.modules:
        quiet_model_loading()


def quiet_model_loading() -> None:
    """Switch off the bars of transformers ("Loading weights"), not the hub's for downloads. Call it before a load.

    Imports transformers. That has no environment variable of its own for its bars, and the call that stops them stops
    the hub's as well.
    """
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
    from transformers.utils import logging as transformers_logging

    downloads_seen = _NO_HUB_BARS not in os.environ and not are_progress_bars_disabled()
    transformers_logging.disable_progress_bar()
    if downloads_seen:
        enable_progress_bars()
