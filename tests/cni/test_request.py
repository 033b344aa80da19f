# SPDX-License-Identifier: Apache-2.0
"""What is read from a call, and the error for everything that is wrong with one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycilium.cni import CniError, Command, Plugin, Request, Result
from pycilium.cni.labels import addresses_of, labels_of, mac_of
from pycilium.cni.versions import SUPPORTED
from pycilium.errors import SpecError

CALL = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "c1",
    "CNI_NETNS": "/run/netns/c1",
    "CNI_IFNAME": "eth0",
}
CONFIG = {"cniVersion": "1.1.0", "name": "net", "type": "pycilium"}


def parse(config: dict[str, Any] | bytes | None = None, **environment: str) -> Request:
    text = (
        config if isinstance(config, bytes) else json.dumps({**CONFIG, **(config or {})}).encode()
    )
    return Request.parse({**CALL, **environment}, text)


def test_a_call() -> None:
    request = parse(CNI_ARGS="IgnoreUnknown=1;K8S_POD_NAME=web;WHAT=ever")
    assert (request.command, request.owner) == (Command.ADD, "net/c1/eth0")
    assert request.netns == "/run/netns/c1"
    assert request.arguments["WHAT"] == "ever"
    assert parse(CNI_COMMAND="DEL", CNI_NETNS="").netns is None


@pytest.mark.parametrize(
    ("config", "environment", "code"),
    [
        ({"cniVersion": "2.0.0"}, {}, 1),
        ({"cniVersion": None}, {}, 1),
        ({"name": "a/b"}, {}, 7),
        ({"name": None}, {}, 7),
        (b"", {}, 6),
        (b"[]", {}, 6),
        (b"[" * 100_000, {}, 6),
        (b" " * ((1 << 20) + 1), {}, 6),
        ({}, {"CNI_COMMAND": "PUT"}, 4),
        ({}, {"CNI_CONTAINERID": ""}, 4),
        ({}, {"CNI_CONTAINERID": "../etc"}, 4),
        ({}, {"CNI_NETNS": ""}, 4),
        ({}, {"CNI_IFNAME": "eth0 eth1"}, 4),
        ({}, {"CNI_IFNAME": "sixteen-bytes-xx"}, 4),
        ({}, {"CNI_IFNAME": ".."}, 4),
        ({}, {"CNI_ARGS": "NOTHING"}, 4),
        ({}, {"CNI_ARGS": "UNKNOWN=1"}, 4),
    ],
)
def test_errors_have_the_numbers_of_the_specification(
    config: Any, environment: dict[str, str], code: int
) -> None:
    with pytest.raises(CniError) as caught:
        parse(config, **environment)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("config", "arguments", "labels"),
    [
        ({"labels": {"app": "web"}}, "", "app=web"),
        ({"args": {"cni": {"labels": [{"key": "app", "value": "a"}]}}}, "", "app=a"),
        ({"labels": {"a": "1", "b": "1"}, "runtimeConfig": {"labels": {"a": "2"}}}, "", "a=2,b=1"),
        ({"labels": {"app": "a"}}, "LABELS=app=c,tier=db", "app=c,tier=db"),
        ({}, "K8S_POD_NAME=web", "container:name=web"),
        ({}, "", ""),
    ],
)  # fmt: skip
def test_labels_of_the_runtime(config: dict[str, Any], arguments: str, labels: str) -> None:
    assert str(labels_of(parse(config, CNI_ARGS=arguments))) == labels


def test_a_pod_is_in_its_namespace() -> None:
    arguments = "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-1;LABELS=app=web"
    labels = labels_of(parse(CNI_ARGS=arguments))
    assert labels.namespace == "shop"
    assert labels.values_of("app") == ("web",)
    assert labels.values_of("name") == ()


@pytest.mark.parametrize("arguments", ["", "K8S_POD_NAMESPACE=shop;"])
@pytest.mark.parametrize(
    "key", ["io.kubernetes.pod.namespace", "reserved:host", "io.cilium.k8s.policy.serviceaccount"]
)
def test_nobody_claims_what_the_cluster_says(arguments: str, key: str) -> None:
    with pytest.raises(SpecError):
        labels_of(parse({"labels": {key: "x"}}, CNI_ARGS=arguments))


@pytest.mark.parametrize("labels", ["app=web", [1], [{"value": "x"}], 5])
def test_labels_of_the_wrong_shape(labels: Any) -> None:
    with pytest.raises(SpecError, match="labels"):
        labels_of(parse({"labels": labels}))


def test_addresses_and_mac() -> None:
    runtime = {"ips": ["10.1.0.7/24", "fd00::7"], "mac": "02:00:00:00:00:01"}
    request = parse({"runtimeConfig": runtime})
    assert addresses_of(request) == ("10.1.0.7", "fd00::7")
    assert mac_of(request) == "02:00:00:00:00:01"
    assert addresses_of(parse({"args": {"cni": {"ips": ["10.1.0.8"]}}})) == ("10.1.0.8",)
    assert addresses_of(parse(CNI_ARGS="IP=10.1.0.9")) == ("10.1.0.9",)
    assert (addresses_of(parse()), mac_of(parse())) == ((), None)
    with pytest.raises(CniError):
        addresses_of(parse(CNI_ARGS="IP=here"))


@pytest.mark.parametrize("version", SUPPORTED)
def test_a_result_of_every_version_is_read_back(version: str) -> None:
    before = Result.parse(
        {
            "cniVersion": "1.1.0",
            "interfaces": [{"name": "eth0", "mac": "m", "sandbox": "/n", "mtu": 1400}],
            "ips": [{"address": "10.1.0.7/24", "gateway": "10.1.0.1", "interface": 0}],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dns": {"nameservers": ["10.1.0.1"]},
        }
    )
    shown = before.to_dict(version)
    assert shown["ips"][0].get("version") == (None if version >= "1" else "4")
    assert ("mtu" in shown["interfaces"][0]) == (version == "1.1.0")
    assert Result.parse(shown).ips == before.ips
    with pytest.raises(CniError, match="prevResult"):
        Result.parse({"ips": [{"address": "here"}]})


@given(st.binary(max_size=300), st.sampled_from([one.value for one in Command]))
def test_whatever_comes_there_is_an_answer(text: bytes, command: str) -> None:
    answer = Plugin(lambda _request: (_ for _ in ()).throw(KeyError)).call(  # type: ignore[arg-type]
        {**CALL, "CNI_COMMAND": command}, text
    )
    assert answer.code == 1
    assert set(json.loads(answer.text)) <= {"cniVersion", "code", "msg", "details"}
