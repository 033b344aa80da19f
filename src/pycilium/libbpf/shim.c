/* SPDX-License-Identifier: Apache-2.0 */
/* What libbpf 1.1 has no call for, and what would cost a Python call per record. */
#include <errno.h>
#include <linux/bpf.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>

/* libbpf's messages of the current thread, since the last clear. */
static __thread char pcl_text[16384];
static __thread size_t pcl_used;

static int pcl_print(enum libbpf_print_level level, const char *format, va_list arguments)
{
	int written;

	if (level == LIBBPF_DEBUG || pcl_used >= sizeof(pcl_text) - 1)
		return 0;
	written = vsnprintf(pcl_text + pcl_used, sizeof(pcl_text) - pcl_used, format, arguments);
	if (written > 0)
		pcl_used += written;
	if (pcl_used > sizeof(pcl_text) - 1)
		pcl_used = sizeof(pcl_text) - 1;
	return written;
}

static const char *pcl_messages(void)
{
	return pcl_text;
}

static void pcl_messages_clear(void)
{
	libbpf_set_print(pcl_print);
	pcl_used = 0;
	pcl_text[0] = 0;
}

static struct bpf_object *pcl_object_open(const char *path, char *log, __u32 log_size,
					  __u32 log_level)
{
	LIBBPF_OPTS(bpf_object_open_opts, options, .kernel_log_buf = log,
		    .kernel_log_size = log_size, .kernel_log_level = log_level);

	return bpf_object__open_file(path, &options);
}

static int pcl_program_type(const struct bpf_program *prog)
{
	return bpf_program__type(prog);
}

static int pcl_map_type(const struct bpf_map *map)
{
	return bpf_map__type(map);
}

static int pcl_map_update_batch(int fd, const void *keys, const void *values, __u32 *count)
{
	return bpf_map_update_batch(fd, keys, values, count, NULL);
}

static int pcl_map_delete_batch(int fd, const void *keys, __u32 *count)
{
	return bpf_map_delete_batch(fd, keys, count, NULL);
}

static int pcl_map_lookup_batch(int fd, void *in, void *out, void *keys, void *values,
				__u32 *count)
{
	return bpf_map_lookup_batch(fd, in, out, keys, values, count, NULL);
}

static int pcl_map_create(int type, const char *name, __u32 key_size, __u32 value_size,
			  __u32 max_entries, __u32 flags)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = flags);

	return bpf_map_create(type, name, key_size, value_size, max_entries, &options);
}

static int pcl_bpf(int command, void *attr, unsigned int size)
{
	int result = syscall(__NR_bpf, command, attr, size);

	return result < 0 ? -errno : result;
}

/* struct of BPF_LINK_CREATE for links that have a place in a chain (TCX, since 6.6). */
struct pcl_link_attr {
	__u32 prog_fd;
	__u32 target;
	__u32 attach_type;
	__u32 flags;
	__u32 relative;
	__u32 pad;
	__u64 expected_revision;
	__u64 rest[8];
};

static int pcl_link_create(int prog_fd, int target, int attach_type, __u32 flags, __u32 relative)
{
	struct pcl_link_attr attr = {
		.prog_fd = prog_fd,
		.target = target,
		.attach_type = attach_type,
		.flags = flags,
		.relative = relative,
	};

	return pcl_bpf(BPF_LINK_CREATE, &attr, sizeof(attr));
}

/* A descriptor whose reads run an iterator program, over a map's elements or (-1) all there is. */
static int pcl_iterator(int prog_fd, int map_fd)
{
	union bpf_iter_link_info info = {.map.map_fd = map_fd};
	LIBBPF_OPTS(bpf_link_create_opts, options, .iter_info = map_fd < 0 ? NULL : &info,
		    .iter_info_len = map_fd < 0 ? 0 : sizeof(info));
	int link = bpf_link_create(prog_fd, 0, BPF_TRACE_ITER, &options);
	int result;

	if (link < 0)
		return link;
	result = bpf_iter_create(link);
	close(link);
	return result;
}

/* Whether the kernel's BTF has a function; -ENOENT where it has not, or there is no BTF. */
static int pcl_kernel_function(const char *name)
{
	struct btf *btf = btf__load_vmlinux_btf();
	int result;

	if (libbpf_get_error(btf))
		return -ENOENT;
	result = btf__find_by_name_kind(btf, name, BTF_KIND_FUNC);
	btf__free(btf);
	return result;
}

struct pcl_attach_attr {
	__u32 target;
	__u32 prog_fd;
	__u32 attach_type;
	__u32 flags;
	__u32 replace_fd;
	__u32 relative;
	__u64 expected_revision;
};

static int pcl_prog_attach(int prog_fd, int target, int attach_type, __u32 flags, __u32 relative)
{
	struct pcl_attach_attr attr = {
		.target = target,
		.prog_fd = prog_fd,
		.attach_type = attach_type,
		.flags = flags,
		.relative = relative,
	};

	return pcl_bpf(BPF_PROG_ATTACH, &attr, sizeof(attr));
}

struct pcl_query_attr {
	__u32 target;
	__u32 attach_type;
	__u32 query_flags;
	__u32 attach_flags;
	__u64 prog_ids;
	__u32 count;
	__u32 pad;
	__u64 prog_attach_flags;
	__u64 link_ids;
	__u64 link_attach_flags;
	__u64 revision;
};

static int pcl_prog_query(int target, int attach_type, __u32 *prog_ids, __u32 *link_ids,
			  __u32 *count)
{
	struct pcl_query_attr attr = {
		.target = target,
		.attach_type = attach_type,
		.prog_ids = (uintptr_t)prog_ids,
		.link_ids = (uintptr_t)link_ids,
		.count = *count,
	};
	int result = pcl_bpf(BPF_PROG_QUERY, &attr, sizeof(attr));

	*count = attr.count;
	return result;
}

static int pcl_tc_attach(int ifindex, int egress, int prog_fd, __u32 priority, __u32 *handle)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex,
		    .attach_point = egress ? BPF_TC_EGRESS : BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, options, .prog_fd = prog_fd, .priority = priority,
		    .handle = *handle, .flags = *handle ? BPF_TC_F_REPLACE : 0);
	int error = bpf_tc_hook_create(&hook);

	if (error && error != -EEXIST)
		return error;
	error = bpf_tc_attach(&hook, &options);
	*handle = options.handle;
	return error;
}

static int pcl_tc_detach(int ifindex, int egress, __u32 priority, __u32 handle)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex,
		    .attach_point = egress ? BPF_TC_EGRESS : BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, options, .priority = priority, .handle = handle);

	return bpf_tc_detach(&hook, &options);
}

static int pcl_prog_load(int type, int attach_type, const void *insns, size_t count,
			 const char *license)
{
	LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = attach_type);

	return bpf_prog_load(type, "pcl_probe", license, insns, count, &options);
}

/* nanoseconds: CPU time of this thread for all repetitions; the kernel's own figure is wall. */
static int pcl_test_run(int fd, const void *in, __u32 in_size, void *out, __u32 *out_size,
			void *ctx, __u32 ctx_size, __u32 repeat, __u32 *retval,
			__u64 *nanoseconds)
{
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = in, .data_size_in = in_size,
		    .data_out = out, .data_size_out = *out_size, .ctx_in = ctx, .ctx_out = ctx,
		    .ctx_size_in = ctx_size, .ctx_size_out = ctx_size, .repeat = repeat);
	struct timespec start, end;
	int error;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start);
	error = bpf_prog_test_run_opts(fd, &options);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
	*nanoseconds = (end.tv_sec - start.tv_sec) * 1000000000ULL + end.tv_nsec - start.tv_nsec;
	*retval = options.retval;
	*out_size = options.data_size_out;
	return error;
}

/* The ring: a consumer page, a producer page, and the data mapped twice in a row. */
static void *pcl_ring_map(int fd, __u32 size)
{
	size_t page = sysconf(_SC_PAGESIZE);
	char *base = mmap(NULL, 2 * page + 2 * (size_t)size, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (base == MAP_FAILED)
		return NULL;
	if (mmap(base, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) != MAP_FAILED &&
	    mmap(base + page, page + 2 * (size_t)size, PROT_READ, MAP_SHARED | MAP_FIXED, fd,
		 page) != MAP_FAILED)
		return base;
	munmap(base, 2 * page + 2 * (size_t)size);
	return NULL;
}

static void pcl_ring_unmap(void *ring, __u32 size)
{
	munmap(ring, 2 * sysconf(_SC_PAGESIZE) + 2 * (size_t)size);
}

/* Copies whole records, each as u32 length, u32 zero and its bytes padded to eight. */
static size_t pcl_ring_drain(void *ring, __u32 size, void *out, size_t room, __u32 *records)
{
	size_t page = sysconf(_SC_PAGESIZE), used = 0;
	unsigned long *consumer = ring;
	unsigned long *producer = (void *)((char *)ring + page);
	char *data = (char *)ring + 2 * page;
	unsigned long position = __atomic_load_n(consumer, __ATOMIC_ACQUIRE);
	unsigned long end = __atomic_load_n(producer, __ATOMIC_ACQUIRE);

	*records = 0;
	while (position < end) {
		char *record = data + (position & (size - 1));
		__u32 header = __atomic_load_n((__u32 *)record, __ATOMIC_ACQUIRE);
		__u32 length = header & ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT);
		size_t whole = BPF_RINGBUF_HDR_SZ + ((length + 7) & ~7u);

		if (header & BPF_RINGBUF_BUSY_BIT)
			break;
		if (!(header & BPF_RINGBUF_DISCARD_BIT)) {
			if (used + whole > room)
				break;
			memcpy((char *)out + used, &length, 4);
			memset((char *)out + used + 4, 0, 4);
			memcpy((char *)out + used + 8, record + BPF_RINGBUF_HDR_SZ, whole - 8);
			used += whole;
			++*records;
		}
		position += whole;
	}
	__atomic_store_n(consumer, position, __ATOMIC_RELEASE);
	return used;
}
