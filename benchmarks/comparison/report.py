"""What is printed: the search, the figures of both sides, the causes."""

from collections.abc import Callable
from typing import Any

Say = Callable[[str], Any]

CAUSES = {
    "prompt per pair": "all pairs of a prompt together, each answer once",
    "prompt per answer": "prompt once for both answers",
    "padding": "no padding, rows filled to a token budget",
    "whole head": "head on answers only (TRL: on every position where Triton is missing)",
    "syncs": "fewer syncs: nothing is read back per micro-batch",
    "reference": "reference not in the step",
    "residual": "residual: optimizer, metrics from whole logits, the loop around the step",
}


def checks(found: dict[str, dict[str, float]], say: Say) -> None:
    for shape, check in found.items():
        say(
            f"{shape}: the same loss on {check['pairs']} pairs, against a reference with other weights, float32: "
            f"{check['ours']:.6f} here, {check['trl']:.6f} TRL\n"
        )


def case(result: dict[str, Any], say: Say) -> None:
    own, theirs = result["ours"], result["trl"]
    prompt, chosen, rejected = result["median_tokens"]
    say(
        f"\n{result['shape']} {result['sizes']} (head {result['head_share']:.0%} of the matrix products), "
        f"{result['profile']}: {result['pairs']} pairs, median tokens {prompt:.0f} / {chosen:.0f} / {rejected:.0f}\n"
    )
    _search(result["tried"], theirs["settings"], say)
    say(f"  {'':<26}{'this project':>14}{'TRL':>14}{'ratio':>9}\n")
    _line("pairs/s", own, theirs, "pairs_per_second", say)
    _line("tokens/s (prompt once)", own, theirs, "tokens_per_second", say)
    _line("tokens computed per epoch", own, theirs, "computed_tokens", say)
    _line("peak GiB above imports", own, theirs, "peak_gib", say)
    if own["reference_seconds_per_pair"] is not None or theirs["reference_seconds_per_pair"] is not None:
        _line("reference, seconds/pair", own, theirs, "reference_seconds_per_pair", say)
        _line("reference / epoch of steps", own, theirs, "reference_share", say)
    _line("spread of the repeats", own, theirs, "spread", say)
    if own["overhead"] is not None:
        say(f"  step outside model and optimizer: {own['overhead']:.1%}\n")
    if result["mfu"]:
        say(f"  model FLOP utilisation: {result['mfu']['ours']:.0%} this project, {result['mfu']['trl']:.0%} TRL\n")
    _causes(result.get("causes", []), result["ratio"], say)


def end(results: dict[str, Any], say: Say) -> None:
    where = ", ".join(results["gpus"]) or f"{results['processor']}, {results['threads']} threads"
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    rate = results["matrix_rate"]
    say(
        f"\nall cases (geometric mean): {results['ratio']:.2f}x pairs/s at {results['memory_ratio']:.2f}x memory\n"
        f"{results['date']}, {where}{f', bf16 products at {rate / 1e12:.0f} TFLOP/s' if rate else ''}; {versions}; "
        f"{results['seconds']:.0f} s\n"
    )


def _search(tried: list[dict[str, Any]], chosen: dict[str, Any], say: Say) -> None:
    say("  TRL's settings tried (one step): batch, reference, checkpointing: seconds, GiB\n")
    for entry in tried:
        settings, measured = entry["settings"], entry["measured"]
        what = (
            f"{settings['batch_size']:>3}  {'precomputed' if settings['precompute'] else 'in the step':<11}  "
            f"{'checkpointing' if settings['checkpointing'] else 'none':<13}"
        )
        figures = (
            f"{measured['seconds']:9.2f} {measured['peak_gib'] - measured['baseline_gib']:7.2f}"
            if measured
            else f"  {entry['why']}"
        )
        say(f"    {what}{figures}{'  <' if settings == chosen else ''}\n")


def _line(label: str, own: dict[str, Any], theirs: dict[str, Any], key: str, say: Say) -> None:
    a, b = own[key], theirs[key]
    ratio = f"{a / b:8.2f}x" if a and b else ""
    say(f"  {label:<26}{_number(a):>14}{_number(b):>14}{ratio}\n")


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3f}"


def _causes(causes: list[dict[str, Any]], ratio: float, say: Say) -> None:
    if causes:
        say(f"  where {ratio:.2f}x comes from, each measured by undoing it in this project's own step:\n")
    for cause in causes:
        note = "" if cause["counts"] else " (TRL's best has it too: not in the product)"
        say(f"    {cause['factor']:5.2f}x  {CAUSES[cause['cause']]}{note}\n")
