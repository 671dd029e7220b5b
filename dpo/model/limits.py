"""How long a pair may be for a model: what `data.max_length` means when it is not set, and when it cannot be."""

from transformers import PretrainedConfig

from dpo.config.schema import DataConfig
from dpo.data.text.limits import TokenLimits
from dpo.errors import ConfigError

# Beyond this a default would surprise by its memory; models offer contexts of 128k.
LONGEST_DEFAULT = 4096
# Position embeddings are a table in these: a longer row reads past its end.
LEARNED_POSITIONS = {"gpt2", "opt", "gpt_bigcode", "gpt_neo", "openai-gpt", "xglm", "biogpt"}


def token_limits(data: DataConfig, model: PretrainedConfig) -> tuple[TokenLimits, str]:
    """The limits and a note for the log.

    Raises:
        ConfigError: `data.max_length` is beyond a table of learned positions, or leaves no room for an answer.
    """
    context = getattr(model.get_text_config(), "max_position_embeddings", None)
    length = data.max_length or min(context or LONGEST_DEFAULT, LONGEST_DEFAULT)
    if context and length > context and model.model_type in LEARNED_POSITIONS:
        raise ConfigError([f"data.max_length={length}: this model has learned positions for {context} tokens only"])
    if data.max_prompt_length and data.max_prompt_length >= length:
        raise ConfigError(
            [f"data.max_prompt_length={data.max_prompt_length} leaves no room for an answer within {length} tokens"]
        )
    note = f"data.max_length={length}" + ("" if data.max_length else ": the model's context, at most 4096")
    if context and length > context:
        note += f"; the model was trained on at most {context} tokens and may not be at its best beyond"
    limits = TokenLimits(max_length=length, max_prompt_length=data.max_prompt_length, truncation=data.truncation)
    return limits, note
