# SPDX-License-Identifier: Apache-2.0
"""bgp_speaker.py ROUTER OWN-ADDRESS SERVICE BACKEND: announce it while its backend answers."""

import socket
import sys
import time

from pycilium import ServiceLB
from pycilium.bgp import BlockingSpeaker, ServiceAnnouncer

router, own, frontend, backend = sys.argv[1:]  # 10.0.0.2 10.0.0.1 10.96.0.10:80/tcp 10.1.0.20:80
service = ServiceLB(frontend, backends=[backend])
target = str(service.backends[0].address), service.backends[0].port
with BlockingSpeaker(asn=64512, router_id=own) as speaker:
    speaker.peer(router, asn=64513)
    while True:  # each time the whole truth: what is not listed any more is withdrawn
        with socket.socket() as probe:
            alive = not probe.connect_ex(target)
        speaker.announce(ServiceAnnouncer().routes([service] if alive else []))
        time.sleep(0.3)
