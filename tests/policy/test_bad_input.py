# SPDX-License-Identifier: Apache-2.0
"""What clumsy and hostile input gets: file, line, path, value, and what is allowed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest

from pycilium import SpecError
from pycilium.policy import Peer, PolicySet, load_manifests, read_manifests
from pycilium.policy.cases import Suite
from pycilium.reader import MAX_DEPTH
from pycilium.sources import Text

HEADS = {
    "cnp": "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n"
    "metadata: {name: p, namespace: n}\n",
    "ccnp": "apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {name: p}\n",
    "np": "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\n",
    "cluster": "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\n"
    "metadata: {name: p}\n",
    "calico": "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: p}\n",
}
CYRILLIC = "\u0430pp"


def http(port: str) -> str:
    return (
        "{endpointSelector: {}, ingress: [{toPorts: [{ports: ["
        f"{port}], rules: {{http: [{{}}]}}}}]}}]}}"
    )


def dns(port: str, side: str = "egress") -> str:
    rules = "rules: {dns: [{matchName: a.b}]}"
    return f"{{endpointSelector: {{}}, {side}: [{{toPorts: [{{ports: [{port}], {rules}}}]}}]}}"


def np_port(port: str) -> str:
    return f"{{podSelector: {{}}, ingress: [{{ports: [{port}]}}]}}"


def cnp_port(port: str) -> str:
    return f"{{endpointSelector: {{}}, ingress: [{{toPorts: [{{ports: [{port}]}}]}}]}}"


def block(content: str) -> str:
    return f"{{podSelector: {{}}, ingress: [{{from: [{{ipBlock: {content}}}]}}]}}"


def rule(content: str, tier: str = "tier: Admin, priority: 1") -> str:
    return f"{{{tier}, subject: {{namespaces: {{}}}}, egress: [{content}]}}"


BAD = [
    # misspelt, unknown, missing
    ("cnp", "{endpointSelecter: {}}", "spec.endpointSelecter", "did you mean endpointSelector?"),
    ("cnp", "{endpointSelector: {matchlabels: {}}}", ".matchlabels", "did you mean matchLabels?"),
    ("cnp", "{endpointSelector: {}, ingres: []}", "spec.ingres", "did you mean ingress?"),
    ("cnp", "{}", "spec", "an endpointSelector or a nodeSelector"),
    ("cnp", "{endpointSelector: {}, nodeSelector: {}}", "spec", "one of them"),
    ("cnp", "{nodeSelector: {}}", "spec.nodeSelector", "no nodeSelector in a policy"),
    ("np", "{podSelector: {}, ingress: [{form: []}]}", "spec.ingress[0].form", "mean from?"),
    ("np", "{podSelector: {}, policyTypes: [ingress]}", "policyTypes[0]", "mean Ingress?"),
    ("cluster", rule("", "tier: admin, priority: 1"), "spec.tier", "mean Admin?"),
    ("cluster", "{priority: 1, subject: {namespaces: {}}}", "spec", "a tier"),
    ("cluster", rule("{action: accept, to: [{namespaces: {}}]}"), ".action", "mean Accept?"),
    ("calico", "{selector: all(), ingress: [{action: allow}]}", ".action", "did you mean Allow?"),
    ("calico", "{selector: al()}", "spec.selector", "==, !=, in or not in"),
    # types, nulls, numbers in quotes
    ("cnp", "[]", "spec", "a mapping"),
    ("cnp", "{endpointSelector: []}", "spec.endpointSelector", "a mapping"),
    ("cnp", "{endpointSelector: {}, ingress: {}}", "spec.ingress", "a list"),
    ("cnp", "{endpointSelector: {}, ingress: }", "spec.ingress", "leave the key out"),
    ("cnp", "{endpointSelector: {}, ingress: [{fromEndpoints: }]}", "fromEndpoints", "leave"),
    ("np", "{podSelector: {}, ingress: [~]}", "spec.ingress[0]", "an element, or none"),
    ("np", "{podSelector: {}, ingress: [{from: [{podSelector: ~}]}]}", "from[0]", "a podSelector,"),
    ("cnp", "{endpointSelector: {matchLabels: {a: 5}}}", "matchLabels.a", "text, in quotes"),
    ("cnp", "{endpointSelector: {matchLabels: {a: on}}}", "matchLabels.a", "text, in quotes"),
    ("cnp", "{endpointSelector: {}, enableDefaultDeny: {ingress: 'no'}}", ".ingress", "or false"),
    ("cnp", "{endpointSelector: {}, ingress: [{fromEntities: all}]}", "fromEntities", "a list"),
    ("cnp", "{endpointSelector: {}, ingress: [{fromEntities: [World]}]}", "[0]", "mean world?"),
    ("cluster", rule("", "tier: Admin, priority: '1'"), "priority", "without quotes"),
    ("cluster", rule("", "tier: Admin, priority: 1001"), "priority", "to 1000"),
    ("cluster", rule("", "tier: Admin, priority: 1.5"), "priority", "0 to 1000"),
    ("calico", "{selector: all(), order: .nan}", "spec.order", "a number below"),
    ("calico", "{selector: all(), order: '1'}", "spec.order", "a number below"),
    # ports
    ("np", np_port("{port: 0}"), "ports[0].port", "from 1 to 65535"),
    ("np", np_port("{port: 65536}"), "ports[0].port", "from 1 to 65535"),
    ("np", np_port("{port: -1}"), "ports[0].port", "from 1 to 65535"),
    ("np", np_port("{port: '80'}"), "ports[0].port", "without quotes"),
    ("np", np_port("{port: 80.5}"), "ports[0].port", "from 1 to 65535"),
    ("np", np_port("{port: true}"), "ports[0].port", "from 1 to 65535"),
    ("np", np_port("{port: Web}"), "ports[0].port", "or a port's name"),
    ("np", np_port("{port: 80, endPort: 79}"), "endPort", "from 80 to 65535"),
    ("np", np_port("{port: web, endPort: 90}"), "endPort", "no endPort beside a port's name"),
    ("np", np_port("{endPort: 90}"), "endPort", "a port beside it"),
    ("np", np_port("{port: 80, protocol: tcp}"), "protocol", "did you mean TCP?"),
    ("np", np_port("{port: 80, protocol: ICMP}"), "protocol", "one of TCP, UDP, SCTP"),
    ("cnp", cnp_port("{port: 80}"), "ports[0].port", "text, in quotes"),
    ("cnp", cnp_port("{port: '65536'}"), "ports[0].port", "from 0 to 65535"),
    ("cnp", cnp_port("{port: '8\u0660'}"), "ports[0].port", "from 0 to 65535"),
    ("cnp", cnp_port(f"{{port: '{'9' * 5000}'}}"), "ports[0].port", "from 0 to 65535"),
    ("cnp", cnp_port("{port: '80', endPort: 79}"), "endPort", "from 80 to 65535"),
    ("cnp", cnp_port("{port: '80', protocol: icmpv6}"), "protocol", "did you mean ICMPv6?"),
    ("cnp", cnp_port("{port: '300', protocol: ICMP}"), ".port", "a type of ICMP, from 0 to 255"),
    ("cnp", cnp_port("{protocol: TCP}"), "ports[0]", "a port"),
    ("cluster", rule("{action: Deny, to: [{nodes: {}}], protocols: []}"), "protocols", "leave"),
    (
        "cluster",
        rule("{action: Deny, to: [{namespaces: {}}], protocols: [{tcp: {destinationPort: "
             "{range: {start: 9, end: 1}}}}]}"),
        "range.end", "from 9 to 65535",
    ),
    (
        "calico",
        "{selector: a, ingress: [{action: Deny, protocol: TCP, destination: {ports: ['9:1']}}]}"
        .replace("a,", "all(),"),
        "ports[0]", "the lower first",
    ),
    # selectors
    (
        "np", "{podSelector: {matchExpressions: [{key: a, operator: In}]}}",
        "matchExpressions[0]", "at least one value with In",
    ),
    (
        "np", "{podSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}",
        "matchExpressions[0]", "no values with Exists",
    ),
    (
        "np", "{podSelector: {matchExpressions: [{key: a, operator: in, values: [b]}]}}",
        "operator", "did you mean In?",
    ),
    ("np", "{podSelector: {matchExpressions: [{operator: Exists}]}}", "[0]", "a key"),
    ("np", f"{{podSelector: {{matchLabels: {{{CYRILLIC}: x}}}}}}", "matchLabels", "CYRILLIC SMALL"),
    ("np", f"{{podSelector: {{matchLabels: {{app: {CYRILLIC}}}}}}}", "app", "CYRILLIC SMALL"),
    ("np", "{podSelector: {matchLabels: {'a b': x}}}", "matchLabels", "a label's key"),
    ("np", f"{{podSelector: {{matchLabels: {{{'a' * 64}: x}}}}}}", "matchLabels", "at most 63"),
    ("np", '{podSelector: {matchLabels: {a: "x\\e[31m"}}}', "a: 'x\\x1b[31m'", "printable"),
    # prefixes
    ("np", block("{cidr: 10.0.0.1/8}"), "cidr", "has host bits set"),
    ("np", block("{cidr: 10.0.0.0/255.0.0.0}"), "cidr", "its length in bits"),
    ("np", block("{cidr: 10.0.0.0/33}"), "cidr", "a prefix as in 10.0.0.0/8"),
    ("np", block("{cidr: 'fe80::1%1'}"), "cidr", "a prefix as in 10.0.0.0/8"),
    ("np", block(f"{{cidr: '{'9' * 5000}'}}"), "cidr", "a prefix as in 10.0.0.0/8"),
    ("np", block("{cidr: 10.0/8}"), "cidr", "a prefix as in 10.0.0.0/8"),
    ("np", block("{cidr: 10}"), "cidr", "text, in quotes"),
    ("np", block("{cidr: 10.0.0.0/8, except: ['::/0']}"), "except[0]", "a part of 10.0.0.0/8"),
    ("np", block("{cidr: 10.0.0.0/8, except: [11.0.0.0/9]}"), "except[0]", "a part of 10.0.0.0/8"),
    ("np", block("{cidr: 10.0.0.0/8, except: 10.0.0.0/9}"), "except", "a list"),
    ("np", block("{}"), "ipBlock", "a cidr"),
    (
        "np", "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: '::/0'}, podSelector: {}}]}]}",
        "from[0]", "an ipBlock alone",
    ),
    # what cannot have L7 rules
    ("cnp", http("{port: '80', protocol: UDP}"), "rules", "http rules only with protocol TCP"),
    ("cnp", http("{port: '80'}"), "rules", "http rules only with protocol TCP"),
    ("cnp", http("{port: '0', protocol: TCP}"), "rules", "L7 rules beside ports"),
    ("cnp", http(""), "rules", "L7 rules beside ports"),
    ("cnp", dns("{port: '53', protocol: SCTP}"), "rules", "dns rules only with TCP, UDP or ANY"),
    ("cnp", dns("{port: '53', protocol: UDP}", "ingress"), "rules.dns", "no dns rules in ingress"),
    ("cnp", dns(""), "rules", "L7 rules beside ports"),
    (
        "cnp",
        http("{port: '80', protocol: TCP}").replace("ingress", "ingressDeny"),
        "rules", "no L7 rules in a deny rule",
    ),
    (
        "cnp",
        http("{port: '80', protocol: TCP}").replace("[{}]", "[]"),
        "rules.http", "at least one rule",
    ),
    (
        "cnp",
        http("{port: '80', protocol: TCP}").replace("http: [{}]", "kafka: [{}]"),
        "rules.kafka", "Cilium removed it",
    ),
    ("cnp", http("{port: a, protocol: TCP}").replace("{}]}", "{path: '(?=a)'}]}"), "path", "RE2"),
    (
        "cnp",
        http("{port: '80', protocol: TCP}").replace("{}]}", f"{{path: {'a' * 1025}}}]}}"),
        "path", "at most 1024 characters",
    ),
    # what the kinds cannot say
    ("cnp", "{endpointSelector: {}, ingress: [{toGroups: []}]}", "toGroups", "AWS"),
    (
        "cnp", "{endpointSelector: {}, egressDeny: [{toFQDNs: [{matchName: a.b}]}]}",
        "toFQDNs", "names resolve too late to deny",
    ),
    (
        "cnp", "{endpointSelector: {}, egress: [{toFQDNs: [{matchName: '*.b'}]}]}",
        "matchName", "without *",
    ),
    ("cluster", rule("{action: Deny, to: [{domainNames: [a.b]}]}"), "to", "only where the"),
    ("cluster", rule("{action: Deny, to: []}"), "to", "at least one peer"),
    ("cluster", rule("{action: Deny, to: [{}]}"), "to[0]", "one of namespaces, pods, nodes"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "spec", "path", "words"), BAD, ids=range(len(BAD)))
def test_a_bad_spec_says_where_and_what(kind: str, spec: str, path: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        read_manifests(Text(f"{HEADS[kind]}spec: {spec}\n", "bad.yaml"))
    text = str(caught.value)
    line = HEADS[kind].count("\n") + 1
    assert text.startswith(f"bad.yaml:{line}: spec"), text
    assert path in text
    assert words in text
    assert text.isprintable()
    assert len(text) < 500


REGEXES = [
    ("GET|POST", True), ("/api/v[0-9]+/.*", True), ("(?i)shop", True), ("\\p{Greek}", True),
    ("[[:alpha:]]+", True), ("(?=a)", False), ("(a)\\1", False), ("a++", False), ("(", False),
    ("a{1001}", False), ("((a{100}){100}){100}", False), ("(?P<a>b)(?P=a)", False),
    ("[z-a]", False),
]  # fmt: skip


@pytest.mark.parametrize("installed", [True, False])
@pytest.mark.parametrize(("regex", "good"), REGEXES)
def test_expressions_are_those_of_re2(
    regex: str, good: bool, installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With google-re2 and without: the answer is the same."""
    if not installed:
        monkeypatch.setitem(sys.modules, "re2", None)
    spec = http("{port: '80', protocol: TCP}").replace("{}]}", f"{{path: '{regex}'}}]}}")
    text = Text(f"{HEADS['cnp']}spec: {spec}\n", "f.yaml")
    if good:
        assert load_manifests(text)
        return
    with pytest.raises(SpecError, match="RE2's syntax"):
        load_manifests(text)


DOCUMENTS = [
    ("kind: NetworkPolcy\n", "bad.yaml:1: kind", "did you mean NetworkPolicy?"),
    ("kind: networkpolicy\n", "bad.yaml:1: kind", "did you mean NetworkPolicy?"),
    (
        "apiVersion: networking.k8s.io/v2\nkind: NetworkPolicy\n",
        "apiVersion",
        "networking.k8s.io/v1",
    ),
    ("kind: NetworkPolicy\n", "bad.yaml:1: document", "a spec"),
    ("kind: NetworkPolicy\nspec:\n", "bad.yaml:1: document", "a spec"),
    ("kind: NetworkPolicy\nspc: {}\n", "bad.yaml:2: spc", "did you mean spec?"),
    ("kind: NetworkPolicy\nspecs: [{}]\n", "bad.yaml:2: specs", "a spec"),
    ("kind: NetworkPolicy\nkind: NetworkPolicy\n", "bad.yaml:2: kind", "each key once"),
    ('{"kind": "NetworkPolicy",\n "\\u006bind": "x"}', "bad.yaml:2: kind", "each key once"),
    ("metadata: {namespce: x}\nkind: NetworkPolicy\nspec: {}\n", "namespce", "mean namespace?"),
    ("metadata: {namespace: X}\nkind: NetworkPolicy\nspec: {}\n", "metadata.namespace", "RFC 1123"),
    (
        "metadata: {namespace: ''}\nkind: NetworkPolicy\nspec: {}\n",
        "metadata.namespace",
        "RFC 1123",
    ),
    ("metadata: {name: ''}\nkind: NetworkPolicy\nspec: {}\n", "metadata.name", "a name"),
    ('metadata: {name: "a\\nb"}\nkind: NetworkPolicy\nspec: {}\n', "metadata.name", "printable"),
    (HEADS["ccnp"].replace("p}", "p, namespace: n}") + "spec: {}\n", "namespace", "whole cluster"),
    ("kind: Service\nmetadata: {}\n", "bad.yaml:1: document", "a metadata.name"),
    (
        "kind: Node\nmetadata: {name: n}\nstatus: {addresses: [{type: InternalIP}]}\n",
        ":3:",
        "address",
    ),
    ("kind: Node\nmetadata: {name: n}\nstatus: {addresses: [{address: 1.2.3.4}]}\n", ":3:", "type"),
    ("kind: Endpoints\nmetadata: {name: n}\nsubsets: [{addresses: [{}]}]\n", "addresses[0]", "ip"),
    ("kind: CiliumCIDRGroup\nmetadata: {name: n}\nspec: {}\n", "bad.yaml:1:", "externalCIDRs"),
    ("spec:\n\tpodSelector: {}\n", "bad.yaml:2: document", "spaces, not tabs"),
    ("a: &a {x: 1}\nb:\n  <<: *a\n", "bad.yaml:3: b.<<", "nothing is merged"),
    ("a: !!python/object/apply:os.system [id]\n", "bad.yaml:1: a", "a value without a tag"),
    ("a: !!binary aGk=\n", "bad.yaml:1: a", "a value without a tag"),
    ("a: !!int x\n", "bad.yaml:1: a", "a value of its tag, int"),
    ("a: &a [*a]\n", "bad.yaml:1: a[0]", "an anchor that ends before it"),
    ("a: *a\n", "bad.yaml:1: a", "an anchor that ends before it"),
    ("[a]: b\n", "bad.yaml:1: document", "text"),
    ("a: b\0\n", "bad.yaml: document", "valid YAML"),
    ("a: \ud800\n", "bad.yaml:1: document", "Unicode text"),
    ("kind: [\n", "bad.yaml:2: document", "valid YAML"),
    ("just words\n", "bad.yaml:1: document", "a mapping"),
    ("- a\n", "bad.yaml:1: document", "a mapping"),
]


@pytest.mark.parametrize(("text", "place", "words"), DOCUMENTS, ids=range(len(DOCUMENTS)))
def test_a_bad_document_says_where_and_what(text: str, place: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        read_manifests(Text(text, "bad.yaml"))
    assert place in str(caught.value)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()


GOOD = HEADS["np"] + "spec: {podSelector: {}}\n"
FORMS = {
    "CRLF": GOOD.replace("\n", "\r\n"),
    "byte order mark": "\ufeff" + GOOD,
    "empty documents, as Helm writes them": f"---\n# Source: a\n---\n{GOOD}---\n---\n~\n",
    "a list, as kubectl writes it": f"kind: List\nitems:\n-{indent(GOOD, '  ')[1:]}",
    "nulls, as kubectl writes them": GOOD.replace(
        "{name: p}", "{name: p, creationTimestamp: null}"
    ),
    "JSON": '{"kind": "NetworkPolicy", "metadata": {"name": "\\u0070"}, "spec": {}}',
    "aliases": "kind: NetworkPolicy\nmetadata: {name: &p p, labels: {a: *p, b: *p}}\n"
    "spec: {podSelector: &all {}, ingress: [{from: [{podSelector: *all}]}]}\n",
    "brackets in text": "# [[[[\n" * 200
    + GOOD.replace("p}", "p, annotations: {a: '" + "[" * 200 + "'}}"),
}


@pytest.mark.parametrize("form", list(FORMS))
def test_what_is_unusual_and_right_is_read(form: str) -> None:
    (policy,) = load_manifests(Text(FORMS[form], "good.yaml"))
    assert policy.name == "p"


def test_a_colon_between_numbers_is_text_and_a_date_too() -> None:
    """YAML 1.1 would read 20:30 as 1230, and a rule for ports as one for another."""
    rules = "[{action: Allow, protocol: TCP, destination: {ports: [20:30]}}]"
    text = f"{HEADS['calico']}spec: {{selector: all(), ingress: {rules}}}\n"
    (policy,) = load_manifests(Text(text, "good.yaml"))
    assert str(policy.rules[0].ports[0]) == "20-30/tcp"
    labels = GOOD.replace("{podSelector: {}}", "{podSelector: {matchLabels: {on: 2024-01-02}}}")
    (policy,) = load_manifests(Text(labels, "good.yaml"))
    assert policy.subject.requirements[0].values == ("2024-01-02",)


def test_text_beyond_ascii_in_dicts() -> None:
    document = {
        "kind": "NetworkPolicy",
        "metadata": {"annotations": {"a": "\U0001f680"}},
        "spec": {},
    }
    assert load_manifests([document])


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "sixteen.yaml").write_bytes(GOOD.encode("utf-16"))
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(SpecError, match="UTF-8"):
        load_manifests(tmp_path)
    (tmp_path / "sixteen.yaml").write_bytes(b"#" * ((8 << 20) + 1))
    with pytest.raises(SpecError, match="at most 8388608 bytes"):
        load_manifests(tmp_path)
    for path in ("", "a\0b", "nowhere", "/dev/null"):
        with pytest.raises(SpecError, match="manifest"):
            load_manifests(path)


@pytest.mark.parametrize("document", [{"a": {1, 2}}, {"a": b"b"}, {("a",): 1}, {"a": object()}])
def test_dicts_that_are_no_manifest(document: Any) -> None:
    with pytest.raises(SpecError, match="plain data"):
        load_manifests([document])


def test_a_dict_that_holds_itself() -> None:
    document: dict[str, Any] = {"kind": "NetworkPolicy"}
    document["spec"] = document
    with pytest.raises(SpecError, match="plain data"):
        load_manifests([document])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("peers: {a: {ip: 5}}\n", "an address as text"),
        ("peers: {a: {ip: true}}\n", "an address as text"),
        ("peers: {a: {labels: {a: 5}}}\n", "text, in quotes"),
        ("peers: {a: {label: {}}}\n", "did you mean labels?"),
        ("peers: {a: {}}\n", "labels, a namespace, an ip or an entity"),
        ("peers: {a: {labels: {}, named_ports: {web: [ICMP, 8]}}}\n", "TCP, UDP or SCTP"),
        ("peers: {a: {labels: {}, named_ports: {web: [TCP, true]}}}\n", "from 1 to 65535"),
        ("ports: [a b]\n", '"53/udp"'),
        ("ports: ['\xb2']\n", "ports[0]"),
        (
            "peers: {a: {ip: 1.2.3.4}}\ncases: [{from: b, to: a, port: 1, expect: deny}]\n",
            "one of a",
        ),
        ("case: []\n", "did you mean cases?"),
        ("peers: {}\n---\npeers: {}\n", "one"),
    ],
)
def test_bad_cases(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "cases.yaml").write_text(text)
    with pytest.raises(SpecError) as caught:
        Suite.read(tmp_path / "cases.yaml")
    assert "cases.yaml" in str(caught.value)
    assert words in str(caught.value)


def test_named_ports_of_a_file_are_asked_for(tmp_path: Path) -> None:
    """Lists, as YAML has them, are as good as tuples."""
    text = "peers: {a: {labels: {}, ip: 10.0.0.1, named_ports: {web: [TCP, 80]}}}\n"
    (tmp_path / "cases.yaml").write_text(text)
    one = Suite.read(tmp_path / "cases.yaml").peers["a"]
    assert one == Peer(labels={}, ip="10.0.0.1", named_ports={"web": ("TCP", 80)})
    assert PolicySet().verdict(one, one, 80)


def nested(item: str, count: int) -> str:
    return "a:\n" + "".join(f"{' ' * i}{item}\n" for i in range(1, count))


BOMBS = {
    "10 MB": "a: " + "x" * 10_000_000 + "\n",
    "keys": "".join(f"k{i}: v\n" for i in range(700_000)),
    "elements": "a:\n" + "- x\n" * 1_900_000,
    "elements in one line": "a: [" + "x," * 3_900_000 + "x]\n",
    "lists in one line": "a: [" + "[]," * 2_600_000 + "x]\n",
    "10,000 nested lists": "a: " + "[" * 10_000 + "]" * 10_000 + "\n",
    "10,000 nested lists without brackets": "a:\n " + "- " * 10_000 + "x\n",
    "nested lists in lines": nested("-", 2000),
    "nested mappings": "{a: " * 10_000 + "1" + "}" * 10_000 + "\n",
    "nested mappings in lines": nested("a:", 2000),
    "nested keys": "? " * 10_000 + "x\n",
    "aliases": "a: &a [x, x, x]\n"
    + "".join(f"b{i}: &b{i} [*{f'b{i - 1}' if i else 'a'}, *{f'b{i - 1}' if i else 'a'}]\n"
              for i in range(60)),
    "200,000 documents": "---\nkind: x\n" * 200_000,
    "directives": "".join(f"%TAG !e{i}! tag:x,{i}:\n" for i in range(50_000)) + "--- a\n",
    "a number": "kind: 0x" + "f" * 1_000_000 + "\n",
    "base 60": "kind: 1" + ":59" * 80_000 + "\n",
    "colons": "a: " + ":" * 1_000_000 + "\n",
    "quotes": "a: '" + "''" * 1_000_000 + "\n",
}  # fmt: skip
CHILD = """
import json, resource, sys, time
from pycilium import SpecError
from pycilium.sources import Text
from pycilium.policy.parse import read_manifests
texts = json.load(sys.stdin)
read_manifests(Text("kind: NetworkPolicy\\nspec: {}\\n", "warm.yaml"))
def cost(text):
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    try:
        read_manifests(Text(text, "f.yaml"))
        said = ""
    except SpecError as error:
        said = str(error)
    used = time.process_time() - start
    return said, used, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(json.dumps([cost(text) for text in texts]))
"""


@pytest.mark.parametrize("name", list(BOMBS))
def test_bombs_are_refused_cheaply(name: str) -> None:
    """In less time than 400 good policies take to read, and in 64 MiB, measured in a child."""
    good = "---\n".join(
        HEADS["np"] + "spec: {podSelector: {}, ingress: [{}]}\n" for _ in range(400)
    )
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=json.dumps([BOMBS[name], good]), capture_output=True, text=True, check=True,
    )  # fmt: skip
    (said, used, grown), (nothing, reference, _) = json.loads(done.stdout)
    assert nothing == ""
    assert said.startswith("f.yaml")
    assert used < max(reference * 3, 0.1), f"{used:.3f} s, {reference:.3f} s for 400 policies"
    assert grown < 64 << 10, f"{grown} KiB"


def test_depth_is_refused_where_it_begins() -> None:
    with pytest.raises(SpecError) as caught:
        read_manifests(Text(nested("-", 500), "f.yaml"))
    assert str(caught.value).startswith(f"f.yaml:{MAX_DEPTH + 2}:")
    assert f"at most {MAX_DEPTH}" in str(caught.value)


def test_many_documents_of_context_are_read_in_linear_time() -> None:
    text = "".join(f"---\n{{kind: Service, metadata: {{name: a{i}}}}}\n" for i in range(5000))
    assert len(read_manifests(Text(text, "f.yaml")).cluster.services) == 5000
