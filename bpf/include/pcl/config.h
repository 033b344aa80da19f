/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The configuration, constant after load: what is off is removed by the verifier. */
#ifndef PCL_CONFIG_H
#define PCL_CONFIG_H

#include "pcl/types.h"

const volatile struct pcl_config pcl_config = {
    .events = PCL_EVENTS_VERDICTS,
    .ipv4 = 1,
    .ipv6 = 1,
    .services = 1,
    .devices = 1,
    .masquerade = 1,
    .nat_first = 1024,
    .nat_count = 28976,
    .second = 250,
    .syn_timeout = 60 * 250,
    .tcp_timeout = 8000 * 250,
    .closing_timeout = 10 * 250,
    .other_timeout = 60 * 250,
};

/* Never read: it keeps the types that only user space uses in the object's BTF. */
const volatile struct pcl_contract pcl_contract = {};

#endif /* PCL_CONFIG_H */
