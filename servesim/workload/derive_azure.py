"""Derive a compact workload from an Azure LLM inference trace: `python -m servesim.workload.derive_azure TRACE.csv`.

Prints a YAML fragment (arrivals and lengths) preceded, as comments, by the figures that justify its form: how close
lognormal laws, independent tables and the joint table come to rows they were not derived from.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping

import numpy as np

from servesim.errors import InputError
from servesim.workload.arrivals.azure_trace import AzureTraceArrivals
from servesim.workload.base import IndependentLengths, IntArray, Length
from servesim.workload.cdf import cdf_arrays, cdf_mean_tokens
from servesim.workload.fitting import (
    ArrivalStatistics,
    arrival_statistics,
    fit_cdf,
    fit_joint,
    ks_distance,
    rank_correlation,
)
from servesim.workload.lengths.joint_quantiles import JointQuantilesLengths
from servesim.workload.lengths.lognormal import LognormalLength
from servesim.workload.lengths.quantiles import QuantilesLength
from servesim.workload.load import Lengths, length_blocks

CITATION = (
    "Azure Public Dataset, Azure LLM inference trace 2023 (CC-BY-4.0); Patel et al., 'Splitwise: Efficient generative "
    "LLM inference using phase splitting', ISCA 2024"
)
PROMPT_TOLERANCE = 0.005
OUTPUT_TOLERANCE = 0.02
_DRAWN = 50 * 4096  # requests drawn from a law to compare it: its own sampling error in KS is then about 0.002


def main() -> None:
    """Print the fragment for the trace named on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("trace", help="AzureLLMInferenceTrace_conv.csv or another file of that format")
    parser.add_argument("--prompt-ranges", type=int, default=12, help="ranges of the prompt with their own output law")
    parser.add_argument("--window-s", type=float, default=60.0, help="window in which the rate counts as constant")
    options = parser.parse_args()
    try:
        print(derive(options.trace, prompt_ranges=options.prompt_ranges, window_s=options.window_s))
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


def derive(path: str, *, prompt_ranges: int = 12, window_s: float = 60.0) -> str:
    """Return the YAML fragment for the trace at `path`; raise InputError where it is not a sound trace."""
    blocks = list(AzureTraceArrivals(path=path, zero_output="drop").joint())
    arrival_s = np.concatenate([block.arrival_s for block in blocks])
    prompt = np.concatenate([block.prompt_tokens for block in blocks])
    output = np.concatenate([block.output_tokens for block in blocks])
    statistics = arrival_statistics(arrival_s, window_s)
    joint = _joint(prompt, output, prompt_ranges)
    notes = [
        f"Derived by servesim.workload.derive_azure from {CITATION}.",
        f"{len(arrival_s)} requests in {arrival_s[-1]:.1f} s.",
        *_arrival_notes(statistics),
        *_length_notes(prompt, output, prompt_ranges),
        *_mean_notes(prompt, output, joint),
    ]
    return "\n".join([*(f"# {note}" for note in notes), *_fragment(statistics, joint)])


def _joint(prompt: IntArray, output: IntArray, prompt_ranges: int) -> JointQuantilesLengths:
    return fit_joint(
        prompt,
        output,
        prompt_ranges=prompt_ranges,
        prompt_tolerance=PROMPT_TOLERANCE,
        output_tolerance=OUTPUT_TOLERANCE,
    )


def candidate_lengths(prompt: IntArray, output: IntArray, prompt_ranges: int) -> Mapping[str, Lengths]:
    """Return the forms compared, each derived from the given rows."""
    return {
        "independent lognormal": IndependentLengths(_lognormal(prompt), _lognormal(output)),
        "independent tables": IndependentLengths(
            QuantilesLength(cdf=fit_cdf(prompt, tolerance=PROMPT_TOLERANCE)),
            QuantilesLength(cdf=fit_cdf(output, tolerance=PROMPT_TOLERANCE)),
        ),
        "joint table": _joint(prompt, output, prompt_ranges),
    }


def _lognormal(tokens: IntArray) -> Length:
    """Return the maximum-likelihood lognormal: mean and deviation of the logarithm."""
    logs = [math.log(count) for count in tokens.tolist()]
    mean = math.fsum(logs) / len(logs)
    sigma = math.sqrt(math.fsum((log - mean) ** 2 for log in logs) / len(logs))
    return LognormalLength(median_tokens=math.exp(mean), sigma=sigma)


def _arrival_notes(statistics: ArrivalStatistics) -> list[str]:
    window = f"{statistics.window_s:g} s"
    return [
        f"Gaps: squared coefficient of variation {statistics.gap_scv:.3f} over the whole trace (gamma shape "
        f"{1 / statistics.gap_scv:.3f}); within {window} windows gamma shape {statistics.local_burstiness:.3f}.",
        f"Counts per {window}: variance / mean {statistics.window_count_dispersion:.1f} (Poisson 1): the rate swings, "
        "which no stationary source shows; replay the trace where that matters.",
    ]


def _length_notes(prompt: IntArray, output: IntArray, prompt_ranges: int) -> list[str]:
    """Derive every candidate from the even rows and compare it with the odd ones."""
    held_prompt, held_output = prompt[1::2], output[1::2]
    notes = [
        "Lengths, derived from the even rows against the odd rows (Kolmogorov-Smirnov distance of prompt, output and "
        "their sum; mean distance of the output within twelve prompt ranges; correlations):",
        _compared("the even rows themselves", prompt[::2], output[::2], held_prompt, held_output),
    ]
    for name, lengths in candidate_lengths(prompt[::2], output[::2], prompt_ranges).items():
        notes.append(_compared(name, *drawn(lengths), held_prompt, held_output))
    pearson = np.corrcoef(held_prompt, held_output)[0, 1]
    notes.append(
        f"  odd rows: Pearson {pearson:+.3f}, Spearman {rank_correlation(held_prompt, held_output):+.3f}; "
        f"two samples of this size differ by up to {1.358 * math.sqrt(2 / len(held_prompt)):.3f} by chance (95 %)."
    )
    return notes


def _compared(name: str, prompt: IntArray, output: IntArray, held_prompt: IntArray, held_output: IntArray) -> str:
    total = ks_distance(prompt + output, held_prompt + held_output)
    return (
        f"  {name}: KS {ks_distance(prompt, held_prompt):.3f}, {ks_distance(output, held_output):.3f}, {total:.3f}; "
        f"within ranges {conditional_ks(prompt, output, held_prompt, held_output):.3f}; "
        f"Pearson {np.corrcoef(prompt, output)[0, 1]:+.3f}, Spearman {rank_correlation(prompt, output):+.3f}"
    )


def conditional_ks(prompt: IntArray, output: IntArray, held_prompt: IntArray, held_output: IntArray) -> float:
    """Return the mean KS distance of the outputs within twelve equally likely ranges of the held-back prompts."""
    ends = np.unique(np.quantile(held_prompt, np.arange(1, 12) / 12))
    ours, theirs = np.searchsorted(ends, prompt), np.searchsorted(ends, held_prompt)
    return float(
        np.mean([ks_distance(output[ours == index], held_output[theirs == index]) for index in range(len(ends) + 1)])
    )


def drawn(lengths: Lengths) -> tuple[IntArray, IntArray]:
    """Return a large, reproducible sample of the law: (prompt, output), each of shape (204800,)."""
    return next(length_blocks(lengths, 0, "derive", block_requests=_DRAWN))


def _mean_notes(prompt: IntArray, output: IntArray, joint: JointQuantilesLengths) -> list[str]:
    ends = [entry.up_to_prompt_tokens for entry in joint.output]
    weights = np.diff(np.interp(ends, *cdf_arrays(joint.prompt_cdf)), prepend=0.0)
    our_output = float(np.dot(weights, [cdf_mean_tokens(entry.cdf) for entry in joint.output]))
    return [
        f"Means: prompt {prompt.mean():.1f} (table {cdf_mean_tokens(joint.prompt_cdf):.1f}), output "
        f"{output.mean():.1f} (table {our_output:.1f}) tokens."
    ]


def _fragment(statistics: ArrivalStatistics, joint: JointQuantilesLengths) -> list[str]:
    lines = [
        "arrivals:",
        "  kind: gamma",
        f"  request_rate_rps: {statistics.request_rate_rps:.2f}",
        f"  burstiness: {statistics.local_burstiness:.2f}",
        "lengths:",
        f"  kind: {joint.kind}",
        f"  prompt_cdf: {json.dumps(joint.prompt_cdf)}",
        "  output:",
    ]
    for entry in joint.output:
        lines.append(f"    - up_to_prompt_tokens: {entry.up_to_prompt_tokens}")
        lines.append(f"      cdf: {json.dumps(entry.cdf)}")
    return lines


if __name__ == "__main__":
    main()
