# SPDX-License-Identifier: Apache-2.0
"""First light: real pods, a policy and a service, decided in the kernel and explained."""
