"""A model as the user names it: a local folder or a hub name. Fails at once, in one sentence, when it is not there."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase

from dpo.config.schema import ModelConfig, ReferenceConfig
from dpo.demo.pairs import demo_texts
from dpo.errors import ModelError
from dpo.model.tiny import build_tiny_tokenizer, tiny_config

CHECK_SECONDS = 5.0  # for the one request that tells whether the hub answers at all


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
            return tiny_config(len(_demo_tokenizer()))
        self.require()
        try:
            return AutoConfig.from_pretrained(self.path, **self.options)
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(
                f"{self.setting}={self.path}: its config.json cannot be used: {_first_line(error)}"
            ) from error

    def tokenizer(self) -> PreTrainedTokenizerBase:
        if self.build:
            return _demo_tokenizer()
        try:
            return AutoTokenizer.from_pretrained(self.path, **self.options)
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(
                f"{self.setting}={self.path}: no tokenizer can be loaded from there (looked for tokenizer.json): "
                f"{_first_line(error)}"
            ) from error

    @property
    def is_folder(self) -> bool:
        return self.path is not None and Path(self.path).is_dir()

    def names(self) -> list[str]:
        """All files of the model, as paths within it; of a hub model without a network [], nothing more is fetched."""
        assert self.path is not None
        if self.is_folder:
            return [str(path.relative_to(self.path)) for path in Path(self.path).rglob("*") if path.is_file()]
        from huggingface_hub import HfApi

        try:
            info = HfApi().model_info(self.path, revision=self.revision, timeout=CHECK_SECONDS)
        except Exception:  # every transport library has its own family of errors
            return []
        return [entry.rfilename for entry in info.siblings or []]

    def file(self, name: str) -> Path | None:
        """A file of the model on this machine, fetched from the hub if need be; None when the model has no such."""
        assert self.path is not None
        if self.is_folder:
            return found if (found := Path(self.path, name)).is_file() else None
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        try:
            return Path(hf_hub_download(self.path, name, revision=self.revision))
        except LocalEntryNotFoundError as error:
            raise ModelError(self._unreachable(name)) from error
        except EntryNotFoundError:
            return None

    def require(self) -> None:
        """Raises ModelError when there is no such model or the hub cannot be reached, within seconds."""
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
        """Ask the hub once, with a time-out: its own downloads repeat a failing request for half a minute."""
        from huggingface_hub import HfApi, try_to_load_from_cache
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError

        assert self.path is not None
        try:
            if isinstance(try_to_load_from_cache(self.path, name, revision=self.revision), str):
                return
            HfApi().model_info(self.path, revision=self.revision, timeout=CHECK_SECONDS)
        except HFValidationError as error:
            raise ModelError(
                f"{self.setting}={self.path}: neither a folder on this machine nor a valid hub name."
            ) from error
        except HfHubHTTPError as error:
            status = getattr(error.response, "status_code", None)
            raise ModelError(
                f"{self.setting}={self.path}: the hub has no such model, or it needs access rights (answer {status}): "
                f"check the name and {self.setting.replace('path', 'revision')}, or log in with HF_TOKEN set."
            ) from error
        except Exception as error:  # no network: every transport library has its own family of errors
            raise ModelError(self._unreachable(name)) from error

    def _unreachable(self, name: str) -> str:
        return (
            f"{self.setting}={self.path}: could not get {name} of this model from the hub (no network?) and it is not "
            f"in the local cache; download the model on a machine with network and point {self.setting} at the local "
            "folder."
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


@cache
def _demo_tokenizer() -> PreTrainedTokenizerBase:
    return build_tiny_tokenizer(demo_texts())


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
