# SPDX-License-Identifier: Apache-2.0
"""What pycilium costs, beside a limit and its competitors in the same run.

`python -m benchmarks NAME [--json]`, or `--all`. Absolute times move with the
machine, so every figure that has a goal is a ratio to a reference that was
measured in the same run, interleaved with it round by round.
"""
