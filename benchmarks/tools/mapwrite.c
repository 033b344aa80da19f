/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mapwrite ENTRIES BATCH: write a hash map of 16-byte keys and values, BATCH
 * entries with one system call (1: BPF_MAP_UPDATE_ELEM), and print the
 * nanoseconds of processor time that it took.
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

struct pair {
	__u64 quads[2];
};

static int write_entry(int map, __u64 number)
{
	struct pair key = {{number, 0}}, value = {{number, number}};
	union bpf_attr attr = {
		.map_fd = map,
		.key = (__u64)(unsigned long)&key,
		.value = (__u64)(unsigned long)&value,
	};

	return bpf(BPF_MAP_UPDATE_ELEM, &attr);
}

static int write_batch(int map, __u64 first, __u32 count, struct pair *keys, struct pair *values)
{
	union bpf_attr attr = {
		.batch = {
			.map_fd = map,
			.keys = (__u64)(unsigned long)keys,
			.values = (__u64)(unsigned long)values,
			.count = count,
		},
	};

	for (__u32 i = 0; i < count; i++) {
		keys[i] = (struct pair){{first + i, 0}};
		values[i] = (struct pair){{first + i, first + i}};
	}
	return bpf(BPF_MAP_UPDATE_BATCH, &attr);
}

static int write_all(int map, __u32 entries, __u32 batch)
{
	struct pair *keys = calloc(batch, sizeof(*keys)), *values = calloc(batch, sizeof(*values));
	int failed = !keys || !values;

	for (__u32 i = 0; !failed && i < entries; i += batch)
		failed = batch == 1 ? write_entry(map, i)
				    : write_batch(map, i, entries - i < batch ? entries - i : batch,
						  keys, values);
	free(keys);
	free(values);
	return failed;
}

static long long processor_ns(void)
{
	struct timespec spent;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &spent);
	return spent.tv_sec * 1000000000LL + spent.tv_nsec;
}

int main(int argc, char **argv)
{
	__u32 entries = argc == 3 ? strtoul(argv[1], NULL, 10) : 0;
	__u32 batch = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;
	long long begin;
	int map;

	if (!entries || !batch) {
		fprintf(stderr, "usage: mapwrite ENTRIES BATCH\n");
		return 2;
	}
	map = create_map(entries);
	if (map < 0) {
		perror("create map");
		return 1;
	}
	begin = processor_ns();
	if (write_all(map, entries, batch)) {
		perror("write map");
		return 1;
	}
	printf("%lld\n", processor_ns() - begin);
	return 0;
}
