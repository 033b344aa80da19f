# SPDX-License-Identifier: Apache-2.0
"""The kernel against the evaluator for as long as asked."""
