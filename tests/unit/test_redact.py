"""Keys and passwords: refused as settings, hidden on the screen and in files."""

import io
import json
import logging
import sys
import traceback
from dataclasses import asdict
from pathlib import Path

import pytest

from dpo import cli
from dpo.config.checks import check
from dpo.config.compose import as_yaml, compose_run
from dpo.config.schema import RunConfig
from dpo.errors import ConfigError
from dpo.records import RunFolder, write_status
from dpo.redact import Secrets, hide_on_screen, redact

pytestmark = pytest.mark.unit

VALUE = "planted-value-0123"  # of no known shape
SHAPED = "hf_" + "Qx7" * 10


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SERVICE_TOKEN", VALUE)


def refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        check(compose_run(list(overrides), 1).config)
    return str(caught.value)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (f"hf_token={SHAPED}", "export HF_TOKEN="),
        ("+track.wandb_api_key=abc", "export WANDB_API_KEY="),
        (f"model.revision={SHAPED}", "export HF_TOKEN="),
        ("data.path=https://me:pa55word@host/pairs.jsonl", "give its local path"),
        (f"track.entity={VALUE}", "MY_SERVICE_TOKEN"),
        (f"track.project=x-{VALUE}", "MY_SERVICE_TOKEN"),
        ("zero.deepspeed.comet.api_key=abc", "from the environment"),
        (f"model.path={SHAPED} with blanks", "export HF_TOKEN="),  # no valid override either
        ("track.project=${oc.env:MY_SERVICE_TOKEN}", "MY_SERVICE_TOKEN"),  # seen in what it becomes
    ],
)
def test_a_setting_that_carries_one_is_refused_and_not_repeated(override: str, said: str) -> None:
    text = refusal("loss=nonsense" if "oc.env" not in override else "seed=1", override)
    name, _, value = override.lstrip("+").partition("=")
    assert text.startswith("1 problem") and f"{name}: " in text and said in text
    assert value not in text and "nonsense" not in text


def test_ordinary_settings_are_no_secrets() -> None:
    settings = [
        "model.eos_token='<|end|>'",
        "eval.max_new_tokens=8",
        "optim.micro_batch_tokens=64",
        "data.path=s3.json",
    ]
    check(compose_run(settings, 1).config)


def test_an_option_is_refused_by_its_name_alone(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "setup_logging", lambda is_main: None)
    monkeypatch.setattr(logging.getLogger("dpo"), "propagate", True)
    assert cli.main(["--hf_token=0123456789"]) == 2
    assert "--hf_token: no such option" in caplog.text and "0123456789" not in caplog.text


def test_the_printed_configuration_hides_them() -> None:
    """`--cfg` prints before anything is checked."""
    composed = compose_run(["track.project=${oc.env:MY_SERVICE_TOKEN}"], 1)
    text = as_yaml(composed.config)
    assert VALUE not in text and "project: '***'" in text
    assert text.count("\n") == as_yaml(compose_run([], 1).config).count("\n")


def test_a_failed_run_does_not_write_them_down(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path).create()
    write_status(folder, state="failed", why=f"401 for https://me:pa55word@host/x with {VALUE} and {SHAPED}")
    text = folder.status.read_text()
    assert json.loads(text)["why"] == "401 for https://me:***@host/x with *** and ***"


def test_nothing_on_the_screen_holds_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Log lines of any logger, uncaught exceptions, prints of libraries; and all else passes unchanged."""
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(sys, "stdout", screen)
    hide_on_screen()
    hide_on_screen()
    library = logging.getLogger("a_library")
    library.addHandler(handler := logging.StreamHandler())
    try:
        library.error("refused: %s", VALUE)
    finally:
        library.removeHandler(handler)
    try:
        raise RuntimeError(f"no access to https://me:{VALUE}@host with {SHAPED}")
    except RuntimeError as error:
        sys.__excepthook__(type(error), error, error.__traceback__)
        traceback.print_exc()
    sys.stdout.write(f"{VALUE}\n")
    sys.stdout.writelines([SHAPED, "\n"])
    sys.stdout.write("eos_token and pairs\n")
    sys.stderr.flush()
    text = screen.getvalue()
    assert [secret for secret in (VALUE, SHAPED) if secret in text] == []
    assert "refused: ***\n" in text and text.count("RuntimeError: no access to https://me:***@host with ***\n") == 2
    assert text.endswith("***\n***\neos_token and pairs\n")


def test_short_values_hide_no_ordinary_words() -> None:
    assert Secrets({"MY_TOKEN": "true", "HOME_TOKEN": ""}).hide("true story") == "true story"
    assert Secrets({"A_TOKEN": "abcdefgh", "B_TOKEN": "abcdefghijkl"}).hide("abcdefghijkl") == "***"  # longest first


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("https://cdn/a?Expires=1&Signature=aB~c-_&x=2 failed", "https://cdn/a?Expires=1&Signature=***&x=2 failed"),
        ("https://host/?X-Amz-Credential=abc/20&page=3", "https://host/?X-Amz-Credential=***&page=3"),
        ("Authorization: Bearer abc.def-123", "Authorization: Bearer ***"),
        (f"token {SHAPED}.", "token ***."),
        ("ghp_" + "a1" * 18 + " AKIAABCDEFGH12345678", "*** ***"),
    ],
)
def test_addresses_and_headers(text: str, hidden: str) -> None:
    assert Secrets({}).hide(text) == hidden


@pytest.mark.parametrize(
    "text",
    ["hf_ultrafeedback_binarized_cleaned_v2", "sk-learn-preferences", "git@github.com:a/b", "http://host:8080/x@y"],
)
def test_names_that_only_look_like_keys(text: str) -> None:
    assert Secrets({}).hide(text) == text


def test_secrets_are_hidden_and_settings_are_not() -> None:
    environment = {"HF_TOKEN": "plainvalue1", "MY_API_KEY": "short", "HOME": "/home/someone"}
    config = {
        "model": {"path": "m", "eos_token": "</s>", "hf_token": "abc", "api-key": None, "trust_remote_code": False},
        "optim": {"micro_batch_tokens": 8192, "lr": 1e-5},
        "eval": {"max_new_tokens": 128},
        "data": {"path": "s3://user:pa55@host/x", "list": ["is plainvalue1 here", "short", "hf_" + "a" * 30]},
        "password": 12345,
    }
    assert redact(config, environment) == {
        "model": {"path": "m", "eos_token": "</s>", "hf_token": "***", "api-key": None, "trust_remote_code": False},
        "optim": {"micro_batch_tokens": 8192, "lr": 1e-5},
        "eval": {"max_new_tokens": 128},
        "data": {"path": "s3://user:***@host/x", "list": ["is *** here", "short", "***"]},
        "password": "***",
    }


def test_no_default_setting_is_taken_for_a_secret() -> None:
    config = asdict(RunConfig())
    config["model"]["eos_token"] = "<|end|>"
    assert redact(config, {}) == config
