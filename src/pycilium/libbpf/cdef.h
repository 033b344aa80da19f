typedef uint32_t __u32;
typedef uint64_t __u64;

struct bpf_object;
struct bpf_map;
struct bpf_program;
struct btf;

struct bpf_object *pcl_object_open(const char *path, char *log, __u32 log_size, __u32 log_level);
int bpf_object__load(struct bpf_object *obj);
void bpf_object__close(struct bpf_object *obj);
const char *bpf_object__name(const struct bpf_object *obj);
struct btf *bpf_object__btf(const struct bpf_object *obj);
const void *btf__raw_data(const struct btf *btf, __u32 *size);
struct btf *btf__load_from_kernel_by_id(__u32 id);
void btf__free(struct btf *btf);

struct bpf_program *bpf_object__next_program(const struct bpf_object *obj, struct bpf_program *prog);
const char *bpf_program__name(const struct bpf_program *prog);
const char *bpf_program__section_name(const struct bpf_program *prog);
size_t bpf_program__insn_cnt(const struct bpf_program *prog);
int pcl_program_type(const struct bpf_program *prog);
int bpf_program__set_autoload(struct bpf_program *prog, _Bool autoload);
_Bool bpf_program__autoload(const struct bpf_program *prog);
int bpf_program__fd(const struct bpf_program *prog);

struct bpf_map *bpf_object__next_map(const struct bpf_object *obj, const struct bpf_map *map);
const char *bpf_map__name(const struct bpf_map *map);
int pcl_map_type(const struct bpf_map *map);
__u32 bpf_map__key_size(const struct bpf_map *map);
__u32 bpf_map__value_size(const struct bpf_map *map);
__u32 bpf_map__max_entries(const struct bpf_map *map);
__u32 bpf_map__map_flags(const struct bpf_map *map);
__u32 bpf_map__btf_key_type_id(const struct bpf_map *map);
__u32 bpf_map__btf_value_type_id(const struct bpf_map *map);
_Bool bpf_map__is_internal(const struct bpf_map *map);
struct bpf_map *bpf_map__inner_map(struct bpf_map *map);
int bpf_map__set_max_entries(struct bpf_map *map, __u32 max_entries);
int bpf_map__set_autocreate(struct bpf_map *map, _Bool autocreate);
int bpf_map__reuse_fd(struct bpf_map *map, int fd);
int bpf_map__fd(const struct bpf_map *map);
const void *bpf_map__initial_value(struct bpf_map *map, size_t *size);
int bpf_map__set_initial_value(struct bpf_map *map, const void *data, size_t size);
int bpf_map__set_pin_path(struct bpf_map *map, const char *path);

int libbpf_num_possible_cpus(void);
int bpf_map_update_elem(int fd, const void *key, const void *value, __u64 flags);
int bpf_map_lookup_elem(int fd, const void *key, void *value);
int bpf_map_delete_elem(int fd, const void *key);
int bpf_map_get_next_key(int fd, const void *key, void *next_key);
int pcl_map_update_batch(int fd, const void *keys, const void *values, __u32 *count);
int pcl_map_delete_batch(int fd, const void *keys, __u32 *count);
int pcl_map_lookup_batch(int fd, void *in, void *out, void *keys, void *values, __u32 *count);
int pcl_map_create(int type, const char *name, __u32 key_size, __u32 value_size,
		   __u32 max_entries, __u32 flags);
int bpf_obj_pin(int fd, const char *path);
int bpf_obj_get(const char *path);
int bpf_map_get_fd_by_id(__u32 id);
int bpf_prog_get_fd_by_id(__u32 id);
int bpf_link_get_fd_by_id(__u32 id);
int bpf_prog_get_next_id(__u32 start_id, __u32 *next_id);
int bpf_map_get_next_id(__u32 start_id, __u32 *next_id);
int bpf_link_get_next_id(__u32 start_id, __u32 *next_id);
int bpf_raw_tracepoint_open(const char *name, int prog_fd);
int bpf_link_update(int link_fd, int prog_fd, const void *opts);
int bpf_link_detach(int link_fd);
int bpf_obj_get_info_by_fd(int fd, void *info, __u32 *len);

struct bpf_map_info {
	__u32 type;
	__u32 id;
	__u32 key_size;
	__u32 value_size;
	__u32 max_entries;
	__u32 map_flags;
	char name[16];
	__u32 btf_id;
	__u32 btf_key_type_id;
	__u32 btf_value_type_id;
	...;
};

struct bpf_prog_info {
	__u32 type;
	__u32 id;
	uint8_t tag[8];
	__u32 jited_prog_len;
	__u32 xlated_prog_len;
	char name[16];
	__u32 verified_insns;
	...;
};

int pcl_bpf(int command, void *attr, unsigned int size);
int pcl_link_create(int prog_fd, int target, int attach_type, __u32 flags, __u32 relative);
int pcl_iterator(int prog_fd, int map_fd);
int pcl_kernel_function(const char *name);
int pcl_prog_query(int target, int attach_type, __u32 *prog_ids, __u32 *link_ids, __u32 *count);
int pcl_prog_attach(int prog_fd, int target, int attach_type, __u32 flags, __u32 relative);
int pcl_tc_attach(int ifindex, int egress, int prog_fd, __u32 priority, __u32 *handle);
int pcl_tc_detach(int ifindex, int egress, __u32 priority, __u32 handle);
int pcl_prog_load(int type, int attach_type, const void *insns, size_t count, const char *license);
int pcl_test_run(int fd, const void *in, __u32 in_size, void *out, __u32 *out_size, void *ctx,
		 __u32 ctx_size, __u32 repeat, __u32 *retval, __u64 *nanoseconds);
void *pcl_ring_map(int fd, __u32 size);
void pcl_ring_unmap(void *ring, __u32 size);
size_t pcl_ring_drain(void *ring, __u32 size, void *out, size_t room, __u32 *records);
const char *pcl_messages(void);
void pcl_messages_clear(void);
