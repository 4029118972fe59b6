// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * What the module would tell of page tables, for kernels that it can't be built
 * for. /proc/kcore shows the kernel's memory; where in it a process's page
 * tables begin is known from the kernel's symbols and from BTF, its own
 * description of its types (Documentation/bpf/btf.rst).
 */
#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.h"
#include "file.h"

#define MOST_SEGMENTS 64
#define MOST_TASKS 65536
#define BTF_MAGIC 0xeb9f
#define ENTRIES 512

#define ENTRY_PRESENT (1ULL << 0)
#define ENTRY_ACCESSED (1ULL << 5)
#define ENTRY_DIRTY (1ULL << 6)
#define ENTRY_LARGE (1ULL << 7)
#define ENTRY_PROT_NONE (1ULL << 8)
#define ENTRY_LARGE_PAT (1ULL << 12)
#define ENTRY_ADDRESS 0x000ffffffffff000ULL

/* include/uapi/linux/btf.h, which the headers of the oldest compiler's suite lack in part. */
enum {
	KIND_INT = 1,
	KIND_ARRAY = 3,
	KIND_STRUCT = 4,
	KIND_UNION = 5,
	KIND_ENUM = 6,
	KIND_FUNC_PROTO = 13,
	KIND_VAR = 14,
	KIND_DATASEC = 15,
	KIND_DECL_TAG = 17,
	KIND_ENUM64 = 19,
};

struct btf_header {
	uint16_t magic;
	uint8_t version, flags;
	uint32_t header_length, types, types_length, strings, strings_length;
};

struct btf_type {
	uint32_t name, info, size;
};

struct btf_member {
	uint32_t name, type, offset;
};

struct btf {
	const char *strings;
	const struct btf_type **types;
	uint32_t count;
};

static struct {
	bool ready;
	int kcore;
	unsigned int segments;
	Elf64_Phdr segment[MOST_SEGMENTS];
	uint64_t init_task, direct_map;
	uint64_t task_list, task_tgid, task_mm, mm_pgd;
	int levels;
	uint64_t pat;
} kernel = { .kcore = -1 };

static bool kcore_read(uint64_t address, void *to, size_t length)
{
	unsigned int n;

	for (n = 0; n < kernel.segments; n++) {
		const Elf64_Phdr *each = &kernel.segment[n];

		if (address >= each->p_vaddr && address - each->p_vaddr < each->p_memsz)
			return pread(kernel.kcore, to, length,
				     each->p_offset + (address - each->p_vaddr)) == (ssize_t)length;
	}
	return false;
}

static bool kcore_open_file(void)
{
	Elf64_Ehdr header;
	unsigned int n;

	kernel.kcore = open("/proc/kcore", O_RDONLY | O_CLOEXEC);
	if (kernel.kcore < 0 || pread(kernel.kcore, &header, sizeof(header), 0) != sizeof(header))
		return false;
	for (n = 0; n < header.e_phnum && kernel.segments < MOST_SEGMENTS; n++) {
		Elf64_Phdr *each = &kernel.segment[kernel.segments];

		if (pread(kernel.kcore, each, sizeof(*each), header.e_phoff + n * sizeof(*each)) !=
		    sizeof(*each))
			return false;
		if (each->p_type == PT_LOAD)
			kernel.segments++;
	}
	return kernel.segments;
}

static bool kcore_find_symbols(void)
{
	FILE *file = fopen("/proc/kallsyms", "re");
	uint64_t direct_map_symbol = 0;
	unsigned long long address;
	char name[64];

	while (file && fscanf(file, "%llx %*c %63s%*[^\n]", &address, name) == 2) {
		if (!strcmp(name, "init_task"))
			kernel.init_task = address;
		else if (!strcmp(name, "page_offset_base"))
			direct_map_symbol = address;
	}
	if (file)
		fclose(file);
	return kernel.init_task && direct_map_symbol &&
	       kcore_read(direct_map_symbol, &kernel.direct_map, sizeof(kernel.direct_map));
}

/* What follows a type in the table. */
static size_t kcore_trailer(const struct btf_type *type)
{
	uint32_t kind = type->info >> 24 & 0x1f, count = type->info & 0xffff;

	switch (kind) {
	case KIND_INT:
	case KIND_VAR:
	case KIND_DECL_TAG:
		return 4;
	case KIND_ARRAY:
		return 12;
	case KIND_STRUCT:
	case KIND_UNION:
	case KIND_DATASEC:
	case KIND_ENUM64:
		return 12 * count;
	case KIND_ENUM:
	case KIND_FUNC_PROTO:
		return 8 * count;
	default:
		return 0;
	}
}

static char *kcore_read_btf(struct btf *btf)
{
	int file = open("/sys/kernel/btf/vmlinux", O_RDONLY | O_CLOEXEC);
	const struct btf_header *header;
	struct stat status = { 0 };
	const char *at, *end;
	ssize_t got = 0;
	off_t length = 0;
	char *data = NULL;

	if (file >= 0 && !fstat(file, &status))
		data = malloc(status.st_size + 1);
	while (data && (got = read(file, data + length, status.st_size - length)) > 0)
		length += got;
	if (file >= 0)
		close(file);
	header = (const struct btf_header *)data;
	if (!data || length < (off_t)sizeof(*header) || header->magic != BTF_MAGIC ||
	    (uint64_t)header->header_length + header->strings + header->strings_length > (uint64_t)length)
		goto fail;
	btf->strings = data + header->header_length + header->strings;
	at = data + header->header_length + header->types;
	end = at + header->types_length;
	/* Number 0 is void; no type is smaller than its head. */
	btf->types = calloc(header->types_length / sizeof(struct btf_type) + 2, sizeof(*btf->types));
	if (!btf->types)
		goto fail;
	for (btf->count = 1; at < end; btf->count++) {
		btf->types[btf->count] = (const struct btf_type *)at;
		at += sizeof(struct btf_type) + kcore_trailer(btf->types[btf->count]);
	}
	return data;
fail:
	free(data);
	return NULL;
}

/* Where a member is, also one of an unnamed struct inside. */
static bool kcore_find_member(const struct btf *btf, const struct btf_type *type, const char *name,
			      uint64_t *offset)
{
	const struct btf_member *members = (const struct btf_member *)(type + 1);
	uint32_t count = type->info & 0xffff, n;
	/* With bit fields in the struct the upper byte is their size. */
	uint32_t mask = type->info >> 31 ? 0xffffff : 0xffffffff;

	for (n = 0; n < count; n++) {
		const struct btf_type *inner = btf->types[members[n].type];
		uint64_t start = (members[n].offset & mask) / 8, within;
		uint32_t kind = inner ? inner->info >> 24 & 0x1f : 0;

		if (!strcmp(btf->strings + members[n].name, name)) {
			*offset = start;
			return true;
		}
		if (!members[n].name && (kind == KIND_STRUCT || kind == KIND_UNION) &&
		    kcore_find_member(btf, inner, name, &within)) {
			*offset = start + within;
			return true;
		}
	}
	return false;
}

static bool kcore_find_in_struct(const struct btf *btf, const char *name, const char *member,
				 uint64_t *offset)
{
	uint32_t n;

	for (n = 1; n < btf->count; n++)
		if ((btf->types[n]->info >> 24 & 0x1f) == KIND_STRUCT &&
		    !strcmp(btf->strings + btf->types[n]->name, name))
			return kcore_find_member(btf, btf->types[n], member, offset);
	return false;
}

static bool kcore_find_offsets(void)
{
	struct btf btf = { 0 };
	char *data = kcore_read_btf(&btf);
	bool found;

	if (!data)
		return false;
	found = kcore_find_in_struct(&btf, "task_struct", "tasks", &kernel.task_list) &&
		kcore_find_in_struct(&btf, "task_struct", "tgid", &kernel.task_tgid) &&
		kcore_find_in_struct(&btf, "task_struct", "mm", &kernel.task_mm) &&
		kcore_find_in_struct(&btf, "mm_struct", "pgd", &kernel.mm_pgd);
	free(btf.types);
	free(data);
	return found;
}

/* The PAT as the kernel says it has set it ("x86/PAT: Configuration [0-7]: WB  WC  UC- ..."). */
static uint64_t kcore_find_pat(void)
{
	static const struct {
		const char *name;
		uint64_t memtype;
	} types[] = {
		{ "UC", MEMTYPE_UC }, { "WC", MEMTYPE_WC }, { "WT", MEMTYPE_WT },
		{ "WP", MEMTYPE_WP }, { "WB", MEMTYPE_WB }, { "UC-", MEMTYPE_UC_MINUS },
	};
	int kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	uint64_t pat = 0;
	char record[8192];
	ssize_t length;

	while ((length = read(kmsg, record, sizeof(record) - 1)) > 0) {
		char *text, *name, *rest;
		unsigned int slot, n;

		record[length] = 0;
		text = strstr(record, "x86/PAT: Configuration [0-7]: ");
		if (!text)
			continue;
		text = strchr(text, ']') + 2;
		pat = 0;
		for (slot = 0, name = strtok_r(text, " \n", &rest); name && slot < 8;
		     slot++, name = strtok_r(NULL, " \n", &rest))
			for (n = 0; n < ARRAY_SIZE(types); n++)
				if (!strcmp(name, types[n].name))
					pat |= types[n].memtype << 8 * slot;
	}
	if (kmsg >= 0)
		close(kmsg);
	return pat;
}

static int kcore_count_levels(void)
{
	struct buffer text = { 0 };
	bool five = !file_read("/proc/cpuinfo", &text) && strstr(text.data, " la57");

	buffer_free(&text);
	return five ? 5 : 4;
}

bool kcore_open(void)
{
	kernel.pat = kcore_find_pat();
	kernel.levels = kcore_count_levels();
	kernel.ready = kernel.pat && kcore_open_file() && kcore_find_symbols() &&
		       kcore_find_offsets();
	return kernel.ready;
}

uint64_t kcore_pat(void)
{
	return kernel.pat;
}

/* The kernel's address of this process's topmost page table. */
static bool kcore_find_page_table(uint64_t *table)
{
	uint64_t next = kernel.init_task + kernel.task_list, memory;
	unsigned int n;
	int32_t tgid;

	for (n = 0; n < MOST_TASKS; n++) {
		uint64_t task;

		if (!kcore_read(next, &next, sizeof(next)))
			return false;
		task = next - kernel.task_list;
		if (task == kernel.init_task ||
		    !kcore_read(task + kernel.task_tgid, &tgid, sizeof(tgid)))
			return false;
		if (tgid == getpid())
			return kcore_read(task + kernel.task_mm, &memory, sizeof(memory)) &&
			       kcore_read(memory + kernel.mm_pgd, table, sizeof(*table));
	}
	return false;
}

/* The leaf entry for address, also of a page with PROT_NONE; 0 when there is none. */
static bool kcore_leaf(uint64_t table, uint64_t address, uint64_t *entry, unsigned int *shift)
{
	bool leaf;
	int level;

	for (level = kernel.levels - 1; level >= 0; level--) {
		*shift = 12 + 9 * level;
		if (!kcore_read(table + 8 * (address >> *shift & (ENTRIES - 1)), entry,
				sizeof(*entry)))
			return false;
		leaf = level == 0 || (level <= 2 && *entry & ENTRY_LARGE);
		if (!(*entry & (leaf ? ENTRY_PRESENT | ENTRY_PROT_NONE : ENTRY_PRESENT)))
			*entry = 0;
		if (leaf || !*entry)
			return true;
		table = kernel.direct_map + (*entry & ENTRY_ADDRESS);
	}
	return false;
}

static uint64_t kcore_attributes(uint64_t entry, unsigned int shift)
{
	uint64_t page = ENTRY_ADDRESS & ~(shift > 12 ? ENTRY_LARGE_PAT : 0);

	return entry & ~(page | ENTRY_ACCESSED | ENTRY_DIRTY);
}

/* As the module's page_table_read() does it. */
bool kcore_page_table(const void *start, uint64_t pages, struct memtype_page_table *table)
{
	uint64_t address = (uintptr_t)start, end = address + pages * PAGE_BYTES, top;

	memset(table, 0, sizeof(*table));
	if (!kernel.ready || !kcore_find_page_table(&top))
		return false;
	while (address < end) {
		struct memtype_run *run = table->count ? &table->runs[table->count - 1] : NULL;
		unsigned int shift, leaf_shift;
		uint64_t entry, next;

		if (!kcore_leaf(top, address, &entry, &shift))
			return false;
		leaf_shift = entry ? shift : 12;
		next = (address | ((1ULL << leaf_shift) - 1)) + 1;
		if (next > end)
			next = end;
		if (!run || run->shift != leaf_shift || !run->entry != !entry ||
		    kcore_attributes(run->entry, leaf_shift) !=
			    kcore_attributes(entry, leaf_shift)) {
			if (table->count == MEMTYPE_MAX_RUNS) {
				table->truncated = 1;
				return true;
			}
			run = &table->runs[table->count++];
			run->entry = entry;
			run->shift = leaf_shift;
		}
		run->pages += (next - address) / PAGE_BYTES;
		address = next;
	}
	return true;
}
