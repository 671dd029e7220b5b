"""The settings that decide how rows are read."""

from dataclasses import dataclass, field

from dpo.config.schema import DataConfig, ObjectiveConfig


@dataclass(kw_only=True, slots=True)
class FormatSettings:
    """The part of `DataConfig` that formats see; what each value means stands there."""

    format: str = "auto"
    plain_text: str = "user_turn"  # or "raw", "rendered"; "recognised" as rendered where a sample of the rows shows it
    preference: str = "better"
    ranked_pairs: str = "all"
    reference_logps: str = "auto"
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)


def format_settings(config: DataConfig) -> FormatSettings:
    return FormatSettings(
        format=config.format,
        plain_text=config.plain_text,
        preference=config.preference,
        ranked_pairs=config.ranked_pairs,
        reference_logps=config.reference_logps,
        objective=config.objective,
    )
