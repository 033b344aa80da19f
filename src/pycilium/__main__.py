# SPDX-License-Identifier: Apache-2.0
"""`python -m pycilium`."""

from pycilium.cli import main

main()
