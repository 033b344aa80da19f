# SPDX-License-Identifier: Apache-2.0
"""One module for each kind of manifest; each turns a document's spec into policies."""
