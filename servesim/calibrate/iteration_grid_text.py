"""The words of docs/calibration.md; `iteration_grid_report` fills in the numbers."""

TEMPLATE = """\
# Calibration of iteration times

How long one iteration of a continuous batch takes on the device, per model, GPU, engine, tensor parallelism and
precision: what was measured, what was fitted, how well the fit predicts what it has not seen, and what it does not
know. This page is written by `python -m servesim.calibrate.iteration_grid DATA_DIR --report docs/calibration.md`;
do not edit it.

## What was measured

Milliseconds per engine iteration (decode only, prefill only, mixed), composed by aiconfigurator 0.12.0 (Apache-2.0)
from NVIDIA's measured operator database. Inputs:

{{sources}}

Three things are *not* in these data: the host time between iterations (every file says `host.iteration_s: null`;
the engine adds its own), how repeated measurements scatter, and end-to-end behaviour. They are sums of single
operators, so fused kernels and overlap of communication with computation are outside them as well.

## The form

    T = base + dense(n) + padded(tiles of n) + per_expert * U(n) + per_seq * (decode_seqs + prefill_seqs)
      + context(S) + sum_j c_j * min(S, k_j * decode_seqs)
      + per_pair * prefill_pairs + prefill_start * min(prefill_tokens, 16) / 16
      + [decode_seqs > 0] * mixed(prefill_tokens)

n is the number of scheduled tokens (one per decoding sequence plus the prefill chunks), S the summed decode
context, U(n) = E (1 - (1 - k/E)^n) the experts a layer is expected to wake. `dense`, `padded`, `context` and `mixed`
are piecewise linear: `dense` has a knot at every power of two, and where the data do not ask for a bend,
neighbouring slopes are held together. `padded`, of dense models only, takes n rounded up to whole tiles of 256
tokens, once it is more than one: 257 tokens pay for 512. k_j is 512 tokens, and the sliding window where the model
has one. No coefficient is negative, hence T grows with every argument, and a vanishing prefill meets decode. At a
fixed decode batch T is a few straight lines in S.

The fit is non-negative least squares of the *relative* error, re-weighted so that outlying operators count less.

## Tables

The 78 exact deployments of `deployment_iteration_grid.csv` (with their KV format, attention data parallelism and expert
parallelism) ship as tables instead, because whole runs are compared with measured ones there and the error of a form
that is smooth where the measured kernels are not would add to theirs:

    T = D(decode_seqs, S) + r(p, decode_seqs) * A(p) + c(p) * (prefill_pairs - 512.5 p)

D joins the decode rows by straight lines in batch and context. A is what prefill adds, r how much of it beside a batch,
c the seconds per pair. In sample a table errs by nearly nothing; held back, a slice is interpolated between its
neighbours, which is no better than the form.

The rows are *levelled* first, and the errors below are against levelled rows: quirks of single operators at the
points of the grid, which whole runs do not show, are taken out by three rules. Decoding fewer or shorter sequences
takes no longer (in the data an all-reduce is slower for 16 sequences than for 64). In a dense model decode time is
convex in the batch. A prefill adds to a decoding batch at most what it takes by itself: FP8 matrix multiplications of
dense models take 1.5 to 2.5 times as long for 1,025 tokens as for 1,024 in the data, and every mixed row lies just
past a power of two, while real batches lie anywhere between. Measured runs decided this: levelled, the median error
of mean TTFT of Llama-3.1-70B on H200 falls from 7.4 to 2.8 %. The form of the wide grid pays for such steps with
`padded`; no measured run could tell whether it pays too much.

Levelling only ever shortens, and it comes before slices are left out, so that the errors of tables below say how well
*levelled* times are joined, not how near they are to single operators' sums. How far it moves these: of dense models
decode rows by 1.3 % (median; 90th percentile 10 %, most 37 %) and mixed rows by 2.5 % (18 %, 58 %); of mixtures of
experts nine decode rows in ten not at all (most 29 %) and mixed rows by 0.0 % (3.7 %, 17 %); prefill rows never.
Errors of whole runs ([validation.md](validation.md)) are against measured ones and hide none of it.

## How the error is measured

One slice at a time is left out of the fit, then predicted: all rows that share a decode batch size, a decode
context, a number of prefill tokens (prefill-only and mixed rows together), or a prompt length. Never random rows:
those have neighbours in the fit that give the answer away.

- *interior*: the slice lies between others. This is the error to expect inside the range of validity.
- *edge*: the slice is the smallest or largest of its family. Predicting it is extrapolation, reported apart.
- *in sample*: the final fit, on all rows; this is what a calibration file ships.

Target for interior slices, all kinds of iteration together: dense models median <= 2 % and 90th percentile <= 6 %,
mixtures of experts median <= 6 %. {{counts}}

{{models}}

Each error below is |predicted / measured - 1| in percent. A deployment has one median and one 90th percentile over
its rows; the columns say how these two are distributed over deployments.

{{summary}}

## Where it falls short

- Most misses are held-back prefill sizes. The measured operators are not smooth between powers of two (Llama-3.1-70B
  in FP8 on two H100 with vllm takes 26 ms for 256 tokens and 51 ms for 257), so a size left out cannot be recovered
  from its neighbours, and where more tokens take less time a form that never falls cannot follow. Joining the two
  neighbouring sizes by a straight line misses 6 % at the 90th percentile of mixed rows in 36 % of the dense
  deployments of the wide grid. In sample, the deployments that miss the target err less than half as much.
- Some attention kernels are slower per context token at small batches than at large ones (A100 with sglang: 1.6
  against 1.15e-7 s at batch 32 and 128). A form that grows with the batch at equal context averages the two.
- Beyond the largest batch, context or prefill measured the last slopes continue; a run that leaves the range should
  say so.
- The grid includes deployments whose weights do not fit the GPU's memory; the block count refuses those.
- Left out, because even the fit on all rows has a 90th percentile error above 20 %:
  {{dropped}}.

## Every deployment

Median / 90th percentile error in percent on held-back interior slices (decode, prefill, mixed, all; then the
largest error), on edge slices, and in sample.

{{table}}
"""
