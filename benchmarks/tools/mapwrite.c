/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mapwrite ENTRIES: write a hash map of 16-byte keys and values with one system
 * call per entry, and print the nanoseconds of processor time that it took.
 */
#define _GNU_SOURCE
#include <linux/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int bpf(int command, union bpf_attr *attr)
{
	return syscall(__NR_bpf, command, attr, sizeof(*attr));
}

static int create_map(__u32 entries)
{
	union bpf_attr attr = {
		.map_type = BPF_MAP_TYPE_HASH,
		.key_size = 16,
		.value_size = 16,
		.max_entries = entries,
	};

	return bpf(BPF_MAP_CREATE, &attr);
}

static int write_entry(int map, __u64 number)
{
	__u64 key[2] = {number, 0}, value[2] = {number, number};
	union bpf_attr attr = {
		.map_fd = map,
		.key = (__u64)(unsigned long)key,
		.value = (__u64)(unsigned long)value,
	};

	return bpf(BPF_MAP_UPDATE_ELEM, &attr);
}

static long long processor_ns(void)
{
	struct timespec spent;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &spent);
	return spent.tv_sec * 1000000000LL + spent.tv_nsec;
}

int main(int argc, char **argv)
{
	__u32 entries = argc == 2 ? strtoul(argv[1], NULL, 10) : 0;
	long long begin;
	int map;

	if (!entries) {
		fprintf(stderr, "usage: mapwrite ENTRIES\n");
		return 2;
	}
	map = create_map(entries);
	if (map < 0) {
		perror("create map");
		return 1;
	}
	begin = processor_ns();
	for (__u32 i = 0; i < entries; i++) {
		if (write_entry(map, i)) {
			perror("write entry");
			return 1;
		}
	}
	printf("%lld\n", processor_ns() - begin);
	return 0;
}
