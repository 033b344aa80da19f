/* SPDX-License-Identifier: Apache-2.0 */
/* What client and server share: a fixed processor, a fixed priority, a way out. */
#ifndef BENCH_REALTIME_H
#define BENCH_REALTIME_H

#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

/* A negative processor leaves the scheduling as it is. */
static void run_realtime_on(int processor)
{
	struct sched_param priority = {.sched_priority = 10};
	cpu_set_t processors;

	if (processor < 0)
		return;
	CPU_ZERO(&processors);
	CPU_SET(processor, &processors);
	if (sched_setaffinity(0, sizeof(processors), &processors))
		fail("sched_setaffinity");
	if (sched_setscheduler(0, SCHED_FIFO, &priority))
		fail("sched_setscheduler");
}

#endif
