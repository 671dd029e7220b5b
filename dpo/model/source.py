"""A model as the user names it: a local folder or a hub name. Fails at once, in one sentence, when it is not there."""

from dataclasses import dataclass
from pathlib import Path

from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase

from dpo.config.schema import ModelConfig, ReferenceConfig
from dpo.errors import ModelError


@dataclass(kw_only=True, slots=True)
class ModelSource:
    """Where weights, config and tokenizer come from."""

    path: str | None  # folder or hub name; null for a model built in code
    revision: str | None
    build: str | None
    trust_remote_code: bool
    seed: int  # for a model built in code with random weights
    setting: str = "model.path"  # what the user changes when it is not found

    @property
    def name(self) -> str:
        return self.path or f"the {self.build} model built in code"

    @property
    def options(self) -> dict[str, str | bool | None]:
        return {"revision": self.revision, "trust_remote_code": self.trust_remote_code}

    def config(self) -> PretrainedConfig:
        """Raises ModelError when there is no such model or the hub cannot be reached."""
        if self.build:
            from dpo.model.tiny import tiny_config

            return tiny_config()
        self._require_config_file()
        try:
            return AutoConfig.from_pretrained(self.path, **self.options)
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(
                f"{self.setting}={self.path}: its config.json cannot be used: {_first_line(error)}"
            ) from error

    def tokenizer(self) -> PreTrainedTokenizerBase:
        if self.build:
            from dpo.model.tiny import build_tiny_tokenizer

            return build_tiny_tokenizer()
        try:
            return AutoTokenizer.from_pretrained(self.path, **self.options)
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(
                f"{self.setting}={self.path}: no tokenizer can be loaded from there (looked for tokenizer.json): "
                f"{_first_line(error)}"
            ) from error

    def file(self, name: str) -> Path | None:
        """A file of the model on this machine, fetched from the hub if need be; None when the model has no such file."""
        assert self.path is not None
        if Path(self.path).is_dir():
            return found if (found := Path(self.path, name)).is_file() else None
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        try:
            return Path(hf_hub_download(self.path, name, revision=self.revision))
        except LocalEntryNotFoundError as error:
            raise ModelError(self._unreachable(name)) from error
        except EntryNotFoundError:
            return None

    def _require_config_file(self) -> None:
        assert self.path is not None
        folder = Path(self.path)
        if folder.is_dir() and not (folder / "config.json").is_file():
            raise ModelError(
                f"{self.setting}={self.path}: this folder has no config.json, so it is no Hugging Face model."
            )
        if not folder.exists() and (folder.is_absolute() or self.path.startswith((".", "~", "outputs/"))):
            raise ModelError(f"{self.setting}={self.path}: there is no such folder (looked for {folder.absolute()}).")
        if not folder.exists():
            self._require_hub_file("config.json")

    def _require_hub_file(self, name: str) -> None:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

        try:
            hf_hub_download(self.path, name, revision=self.revision, etag_timeout=5)
        except HFValidationError as error:
            raise ModelError(
                f"{self.setting}={self.path}: neither a folder on this machine nor a valid hub name."
            ) from error
        except HfHubHTTPError as error:
            status = getattr(error.response, "status_code", None)
            if status in (401, 403, 404):
                raise ModelError(
                    f"{self.setting}={self.path}: the hub has no such model or it needs access rights (answer {status} for "
                    f"{name}); check the name, or log in with HF_TOKEN in the environment."
                ) from error
            raise ModelError(self._unreachable(name)) from error
        except (OSError, OfflineModeIsEnabled) as error:
            raise ModelError(self._unreachable(name)) from error

    def _unreachable(self, name: str) -> str:
        return (
            f"{self.setting}={self.path}: could not get {name} of this model from the hub (no network?) and it is not in "
            f"the local cache; download the model on a machine with network and point {self.setting} at the local folder."
        )


def policy_source(config: ModelConfig, seed: int) -> ModelSource:
    return ModelSource(
        path=config.path,
        revision=config.revision,
        build=config.build,
        trust_remote_code=config.trust_remote_code,
        seed=seed,
    )


def reference_source(config: ReferenceConfig, policy: ModelSource) -> ModelSource:
    """The reference's own weights; the policy's starting weights unless `reference.path` names others. Always read
    from there and before any checkpoint is restored: a resumed policy can never become its own reference."""
    if config.path is None:
        return policy
    return ModelSource(
        path=config.path,
        revision=config.revision,
        build=None,
        trust_remote_code=policy.trust_remote_code,
        seed=policy.seed,
        setting="reference.path",
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
