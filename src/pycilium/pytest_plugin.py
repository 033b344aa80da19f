# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin: the fixture `policy_set` is the policies that pytest's settings name.

[tool.pytest.ini_options]
pycilium_policies = ["policies"]
pycilium_peers = "peers.yaml"
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pycilium.policy import Peer, PolicySet
    from pycilium.policy.cases import Suite


def pytest_addoption(parser: pytest.Parser) -> None:
    """The settings."""
    parser.addini("pycilium_policies", "files and folders of policies", type="paths")
    parser.addini("pycilium_peers", "a YAML file with peers and namespaces", default="")


@pytest.fixture(scope="session")
def policy_suite(pytestconfig: pytest.Config) -> Suite:
    """Peers and namespaces of the file that `pycilium_peers` names."""
    from pycilium.policy.cases import Suite

    given = pytestconfig.getini("pycilium_peers")
    return Suite.read(pytestconfig.rootpath / given) if given else Suite({})


@pytest.fixture(scope="session")
def policy_peers(policy_suite: Suite) -> Mapping[str, Peer]:
    """Peers by name."""
    return policy_suite.peers


@pytest.fixture(scope="session")
def policy_set(pytestconfig: pytest.Config, policy_suite: Suite) -> PolicySet:
    """The policies, read once for each run."""
    from pycilium.policy import PolicySet

    paths = pytestconfig.getini("pycilium_policies")
    if not paths:
        raise pytest.UsageError("policy_set needs pycilium_policies in pytest's settings")
    return PolicySet.from_manifests(paths, namespaces=policy_suite.namespaces)
