# SPDX-License-Identifier: Apache-2.0
"""One manifest of every kind with every field that is read, to be mutated."""

from __future__ import annotations

CILIUM = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: full, namespace: y, labels: {team: a}}
spec:
  description: everything
  endpointSelector:
    matchLabels: {pod: b}
    matchExpressions: [{key: gone, operator: DoesNotExist}]
  enableDefaultDeny: {ingress: true, egress: true}
  log: {value: audited}
  ingress:
  - fromEndpoints: [{matchLabels: {"k8s:io.kubernetes.pod.namespace": x}}, {}]
    toPorts:
    - ports: [{port: "80", endPort: 90, protocol: TCP}, {port: web, protocol: TCP}]
    - ports: [{port: "8080", protocol: TCP}]
      rules:
        http:
        - {method: GET, path: /a.*, host: "(?i)shop"}
        - {headers: ["X-Token: a"], headerMatches: [{name: X, value: b, mismatch: LOG}]}
  - fromEntities: [host, remote-node]
  - fromCIDR: [192.0.2.0/24, "2001:db8::/32"]
  - fromCIDRSet: [{cidr: 10.0.0.0/8, except: [10.0.1.0/24]}, {cidrGroupRef: office}]
    icmps: [{fields: [{family: IPv4, type: EchoRequest}, {family: IPv6, type: 128}]}]
  - fromNodes: [{matchLabels: {zone: z}}]
  ingressDeny:
  - fromEndpoints: [{matchExpressions: [{key: pod, operator: In, values: [c, d]}]}]
    toPorts: [{ports: [{port: "22", protocol: ANY}]}]
  egress:
  - toEndpoints: [{matchExpressions: [{key: pod, operator: NotIn, values: [z]}]}]
    toPorts:
    - {ports: [{port: "53", protocol: UDP}], rules: {dns: [{matchPattern: "*.example.com"}]}}
  - toFQDNs: [{matchName: example.com}, {matchPattern: "*.example.org"}]
  - toServices: [{k8sService: {serviceName: a, namespace: x}}]
  - toServices: [{k8sServiceSelector: {selector: {matchLabels: {tier: db}}, namespace: x}}]
  - toEntities: [cluster]
    toCIDR: [192.0.2.0/24]
  egressDeny:
  - toCIDRSet: [{cidr: 169.254.169.254/32}]
---
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: nodes}
specs:
- {nodeSelector: {matchLabels: {zone: z}}, ingress: [{fromEntities: [cluster]}]}
- {endpointSelector: {}, egress: [{toCIDRSet: [{cidrGroupSelector: {matchLabels: {a: b}}}]}]}
"""
KUBERNETES = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: full, namespace: y}
spec:
  podSelector: {matchLabels: {pod: b}}
  policyTypes: [Ingress, Egress]
  ingress:
  - from:
    - podSelector: {matchExpressions: [{key: pod, operator: Exists}]}
      namespaceSelector: {matchLabels: {ns: x}}
    - ipBlock: {cidr: 10.0.0.0/16, except: [10.0.1.0/24]}
    ports: [{port: 80, endPort: 90, protocol: TCP}, {port: web}]
  egress:
  - {to: [{podSelector: {}}], ports: [{protocol: SCTP}]}
  - {ports: [{port: 53, protocol: UDP}]}
"""
CLUSTER = """
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: full}
spec:
  tier: Admin
  priority: 10
  subject: {pods: {namespaceSelector: {matchLabels: {ns: y}}, podSelector: {}}}
  ingress:
  - name: first
    action: Deny
    from: [{namespaces: {matchLabels: {ns: x}}}]
    protocols:
    - tcp: {destinationPort: {number: 22}}
    - udp: {destinationPort: {range: {start: 1, end: 9}}}
    - destinationNamedPort: web
    - sctp: {}
  - {action: Pass, from: [{pods: {namespaceSelector: {}, podSelector: {matchLabels: {pod: a}}}}]}
  egress:
  - {action: Accept, to: [{networks: [192.0.2.0/24]}, {nodes: {matchLabels: {zone: z}}}]}
  - {action: Accept, to: [{domainNames: ["*.example.com"]}]}
"""
CALICO = """
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: full, namespace: y}
spec:
  tier: default
  order: 10
  selector: pod == 'b' && !has(gone)
  types: [Ingress, Egress]
  ingress:
  - {action: Log}
  - action: Deny
    protocol: TCP
    source: {selector: "pod in {'a', 'c'}", namespaceSelector: ns == 'x', notSelector: pod == 'z'}
    destination: {ports: [80, "90:99", web]}
  - action: Allow
    protocol: ICMP
    icmp: {type: 8}
    source: {nets: [10.0.0.0/8], notNets: [10.0.1.0/24]}
  egress:
  - {action: Pass, protocol: 17, destination: {serviceAccounts: {names: [robot]}}}
  - {action: Allow, ipVersion: 4, destination: {nets: [192.0.2.0/24]}}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: all}
spec: {selector: all(), namespaceSelector: "ns in {'x', 'y'}", ingress: [{action: Allow}]}
"""
CONTEXT = """
{apiVersion: v1, kind: Namespace, metadata: {name: x, labels: {ns: x}}}
---
apiVersion: v1
kind: Service
metadata: {name: a, namespace: x, labels: {tier: db}}
spec: {selector: {pod: a}}
---
apiVersion: v1
kind: Endpoints
metadata: {name: e, namespace: x}
subsets: [{addresses: [{ip: 192.0.2.9}]}]
---
apiVersion: v1
kind: Node
metadata: {name: n, labels: {zone: z}}
status: {addresses: [{type: InternalIP, address: 192.0.2.7}, {type: Hostname, address: n}]}
---
apiVersion: cilium.io/v2
kind: CiliumCIDRGroup
metadata: {name: office, labels: {a: b}}
spec: {externalCIDRs: [198.51.100.0/24]}
"""
EVERY = {
    "cilium": CILIUM,
    "kubernetes": KUBERNETES,
    "cluster": CLUSTER,
    "calico": CALICO,
    "context": CONTEXT,
}
