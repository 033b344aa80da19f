# SPDX-License-Identifier: Apache-2.0
"""Routing protocols as parts: what each peer says, and whether it is still there."""
