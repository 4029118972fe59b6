/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) OR MIT */
/*
 * What the two halves of the agent say to each other: ioctls of /dev/memtype.
 *
 * Addresses are guest-physical unless named "address", which is virtual.
 * Everything is fixed-width and naturally aligned: one layout for every kernel.
 */
#ifndef MEMTYPE_UAPI_H
#define MEMTYPE_UAPI_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define MEMTYPE_DEVICE "memtype"
#define MEMTYPE_NAME_LENGTH 32
#define MEMTYPE_FUNCTION_LENGTH 64
#define MEMTYPE_MAX_RUNS 64
#define MEMTYPE_FIXED_REGISTERS 11
/* MTRRcap.VCNT has eight bits; no CPU has had more than ten. */
#define MEMTYPE_VARIABLE_REGISTERS 32

/* The encodings of IA32_PAT (Intel SDM, "Memory Types That Can Be Encoded With PAT"). */
enum memtype_encoding {
	MEMTYPE_UC = 0,
	MEMTYPE_WC = 1,
	MEMTYPE_WT = 4,
	MEMTYPE_WP = 5,
	MEMTYPE_WB = 6,
	MEMTYPE_UC_MINUS = 7,
};

/* The rules of the verifier, in the order in which they are asked. */
enum memtype_rule {
	MEMTYPE_RULE_NONE,
	MEMTYPE_RULE_MALFORMED,
	MEMTYPE_RULE_IMPOSSIBLE,
	MEMTYPE_RULE_RAM_NOT_WB,
	MEMTYPE_RULE_ALIAS,
	MEMTYPE_RULE_EXCLUSIVE,
	MEMTYPE_RULE_SMRAM,
};

enum memtype_hazard {
	MEMTYPE_HAZARD_MTRR_WB_UNCACHED = 1 << 0,
	MEMTYPE_HAZARD_MTRR_MIXED = 1 << 1,
	MEMTYPE_HAZARD_MTRR_UNDEFINED = 1 << 2,
	MEMTYPE_HAZARD_MTRR_UNCACHED_COMBINES = 1 << 3,
};

enum memtype_kind {
	MEMTYPE_KERNEL,
	MEMTYPE_USER,
};

enum memtype_call {
	MEMTYPE_CALL_IOREMAP,
	MEMTYPE_CALL_MEMREMAP,
	MEMTYPE_CALL_SET_MEMORY,
	MEMTYPE_CALL_SET_PAGES_ARRAY,
	MEMTYPE_CALL_RESERVE_WC,
	MEMTYPE_CALL_PHYS_WC_ADD,
	MEMTYPE_CALL_MEMREMAP_PAGES,
	MEMTYPE_CALL_VMAP,
	MEMTYPE_CALLS,
};

/* How the module maps its own device's memory into a process. */
enum memtype_map_method {
	MEMTYPE_METHOD_REMAP,	/* remap_pfn_range(), at once */
	MEMTYPE_METHOD_INSERT,	/* vmf_insert_pfn(), when touched */
	MEMTYPE_METHOD_COMBINE,	/* the first, with pgprot_writecombine(pgprot_noncached()) */
	MEMTYPE_METHOD_INSERT_PMD,	/* vmf_insert_pfn_pmd(), when touched */
	MEMTYPE_METHOD_INSERT_PAGE,	/* vm_insert_page() of struct pages, at once */
	MEMTYPE_METHOD_INSERT_PAGES,	/* vm_insert_pages(), likewise */
	MEMTYPE_METHOD_REMAP_VMALLOC,	/* remap_vmalloc_range() of what vmap() has made of them, likewise */
	MEMTYPE_METHOD_IOMAP,	/* vm_iomap_memory(), at once */
	MEMTYPE_METHOD_INSERT_MIXED,	/* vmf_insert_mixed(), when touched */
	MEMTYPE_METHOD_DMA_COHERENT,	/* dma_mmap_coherent(), at once */
	MEMTYPE_METHOD_DMA_WC,	/* dma_mmap_wc(), likewise */
	MEMTYPE_METHOD_INSERT_PUD,	/* vmf_insert_pfn_pud() where it can be, else as INSERT_PMD */
	MEMTYPE_METHODS,
};

/* When a process that asked for it is killed. */
enum memtype_kill_point {
	MEMTYPE_KILL_POINT_NEVER,
	MEMTYPE_KILL_POINT_MMAP,	/* in mmap() of the module's device, after the pages were mapped */
	MEMTYPE_KILL_POINT_OPEN,	/* when one of its VMAs was copied: fork, a split, mremap */
	MEMTYPE_KILL_POINT_CLOSE,	/* when one of its VMAs went */
	MEMTYPE_KILL_POINT_FAULT,	/* after a page was inserted */
};

/* One mapping the verifier keeps count of. */
struct memtype_record {
	__u64 start;
	__u64 pages;
	__u64 address;		/* of a user mapping, else 0 */
	__u32 memtype;
	__u32 kind;
	__s32 pid;		/* of a user mapping, else 0 */
	__u32 observed;		/* seen, not asked for */
	char owner[MEMTYPE_NAME_LENGTH];
};

struct memtype_verdict {
	__u32 rule;
	__s32 error;		/* positive errno, 0 when accepted */
	__u32 hazards;
	__u32 has_conflict;
	struct memtype_record conflict;
};

/* Neighbouring pages whose leaf entries differ in nothing but the page. */
struct memtype_run {
	__u64 entry;		/* raw leaf entry of the first page, with PROT_NONE too; 0 for no page */
	__u32 shift;		/* 12, 21 or 30 */
	__u32 pages;		/* in units of 4 KiB */
};

struct memtype_page_table {
	__u32 count;
	__u32 truncated;
	struct memtype_run runs[MEMTYPE_MAX_RUNS];
};

/* A request, and everything that is to be said about it. */
struct memtype_request {
	/* in */
	__u64 start;
	__u64 pages;
	__u32 memtype;
	__u32 kind;
	__u32 call;
	__u32 reserved;
	char owner[MEMTYPE_NAME_LENGTH];
	/* out */
	struct memtype_verdict verdict;
	__u32 asked_kernel;	/* 0 when enforce mode keeps the request from it */
	__s32 kernel_error;	/* positive errno, 0 when accepted */
	__u64 handle;		/* 0 when there is no mapping */
	__u64 address;		/* where the process has it, 0 for the kernel's */
	struct memtype_page_table page_table;
};

struct memtype_range {
	__u64 start;
	__u64 pages;
};

#define MEMTYPE_MOST_PIECES 16

/* What the next mmap() of this open of the device asks for. */
struct memtype_prepare {
	struct memtype_request request;
	__u64 part_first;	/* only these pages are mapped, counted from the first */
	__u64 part_pages;
	__u32 map_method;
	__u32 piece_count;	/* 0 for one piece of memory, that of the request */
	/* One behind the other, with the request's pages together; the first begins where that does. */
	struct memtype_range pieces[MEMTYPE_MOST_PIECES];
};

struct memtype_kill {
	__u32 kill_point;
	__u32 reserved;
};

struct memtype_handle {
	__u64 handle;
	struct memtype_page_table page_table;
};

struct memtype_ram {
	__u64 pages;
	__u64 start;		/* out */
};

struct memtype_statistics {
	__u64 kept_pages;	/* of RAM, which could not be given back as it came */
};

struct memtype_policy {
	__u32 enforce;
	__u32 one_ioremap;
};

/* A range of the calling process. */
struct memtype_address {
	__u64 address;
	__u64 pages;
	__u64 start;		/* of what is mapped there: for ADOPT, out for MAPPED */
	__u32 memtype;		/* likewise */
	__u32 reserved;
	char owner[MEMTYPE_NAME_LENGTH];
	struct memtype_page_table page_table;	/* out, for READ_PAGE_TABLE */
};

/* Records that overlap a range; pages == 0 asks for all. */
struct memtype_tracked {
	__u64 start;
	__u64 pages;
	__u64 buffer;		/* struct memtype_record[capacity] */
	__u32 capacity;
	__u32 count;		/* out: how many there are, even when more than capacity */
};

struct memtype_lookup {
	__u64 start;
	__u64 pages;
	__u32 memtype;		/* out */
	__s32 error;		/* out: EBUSY when the pages in use differ */
	__u32 in_use;		/* out */
	__u32 reserved;
};

struct memtype_owner {
	char owner[MEMTYPE_NAME_LENGTH];
};

struct memtype_registers {
	__u32 cpu;		/* in */
	__u32 physical_bits;
	__u32 has_mtrr;
	__u32 has_pat;
	__u64 pat;
	__u64 mtrr_capability;
	__u64 mtrr_default_type;
	__u64 mtrr_fixed[MEMTYPE_FIXED_REGISTERS];
	__u64 mtrr_variable[MEMTYPE_VARIABLE_REGISTERS][2];
	__u32 has_smrr;
	__u32 has_amd;
	__u64 smrr[2];		/* IA32_SMRR_PHYSBASE and _PHYSMASK */
	__u64 amd_syscfg;	/* and TOP_MEM and TOP_MEM2 */
	__u64 amd_top_mem;
	__u64 amd_top_mem2;
	__u64 cr0;
	__u64 cr3;
	__u64 cr4;
	char vendor[16];
};

#define MEMTYPE_PROBES 2
#define MEMTYPE_TASK_LENGTH 16
#define MEMTYPE_CALLER_LENGTH 80

/* A reservation in the kernel's own list. */
struct memtype_listed {
	__u64 start;
	__u64 pages;
	__u32 memtype;
	__u32 reserved;
};

struct memtype_seed {
	__u64 buffer;		/* struct memtype_listed[count] */
	__u32 count;
	__u32 reserved;
	__u64 sequence;		/* of memtype_observation_status, from before the list was read */
};

struct memtype_probe {
	char function[MEMTYPE_NAME_LENGTH];
	__s32 error;		/* positive errno of the registration, 0 when it succeeded */
	__u32 armed;		/* a call made for this answer went through it */
};

struct memtype_observation_status {
	__u64 sequence;		/* changes with every call that is seen */
	__u64 missed;		/* calls that were not: the records may be wrong */
	__u64 dropped;		/* observations in the records, but no longer in the list */
	struct memtype_probe probes[MEMTYPE_PROBES];
};

/* A mapping that somebody else made, or tried to. */
struct memtype_observation {
	__u64 start;
	__u64 pages;
	__u32 requested;
	__u32 granted;		/* like requested when error is set */
	__s32 error;		/* the kernel's answer: positive errno, 0 when it was made */
	__u32 kind;
	__s32 pid;
	__u32 seeded;		/* from before the probes: requested, pid, task and caller are unknown */
	struct memtype_verdict verdict;
	char task[MEMTYPE_TASK_LENGTH];
	char caller[MEMTYPE_CALLER_LENGTH];
	char handler[MEMTYPE_CALLER_LENGTH];	/* of the file that is being mapped: its mmap() */
};

struct memtype_observed {
	__u64 buffer;		/* struct memtype_observation[capacity] */
	__u32 capacity;
	__u32 count;		/* out: how many there are, even when more than capacity */
};

struct memtype_observe {
	__u32 armed;
};

/* The memory of a process. */
struct memtype_mm {
	__u64 root;		/* of its highest page table */
	__s32 pid;
	__u32 reserved;
	char name[MEMTYPE_TASK_LENGTH];
};

struct memtype_mm_list {
	__u64 buffer;		/* struct memtype_mm[capacity] */
	__u32 capacity;
	__u32 count;		/* out: how many there are, even when more than capacity */
};

#define MEMTYPE_BENCHMARK_ROUNDS 160

/* How long the verifier and the kernel take, in cycles of the TSC, with this many mappings in both. */
struct memtype_benchmark {
	/* in */
	__u32 records;
	__u32 operations;	/* in each round */
	__u32 rounds;
	__u32 overlapping;	/* all of the same page, or none of another's */
	__u32 with_kernel;
	/* out */
	__u32 bytes_per_record;
	__u64 tsc;		/* at the end */
	__u64 check_cycles[MEMTYPE_BENCHMARK_ROUNDS];
	__u64 track_cycles[MEMTYPE_BENCHMARK_ROUNDS];	/* and release */
	__u64 kernel_cycles[MEMTYPE_BENCHMARK_ROUNDS];	/* memtype_reserve() and memtype_free() */
};

/* A function that is to fail. */
struct memtype_fault {
	char function[MEMTYPE_FUNCTION_LENGTH];
	__s32 pid;		/* the process in which it fails */
	__s32 after;		/* calls there that succeed first */
	__s32 times;		/* calls that fail then */
	__s32 error;		/* out: why it can't be probed, positive errno */
	__u64 returns;		/* what the caller gets */
	__u64 handle;		/* out, and in for FAULT_CALLS and FAULT_END */
	__s32 calls;		/* out: of that process since */
	__s32 failed;		/* out: of these */
};

#define MEMTYPE_ARGUMENTS 6
#define MEMTYPE_CALL_WORDS 64

/* A call of any function of the kernel, for a guest of our own alone. */
struct memtype_kernel_call {
	/* in */
	char function[MEMTYPE_FUNCTION_LENGTH];	/* empty: address has it */
	__u64 arguments[MEMTYPE_ARGUMENTS];
	__u32 in_memory;	/* a bit for each argument that is an offset into memory */
	__u32 only_find;	/* it isn't called */
	/* in and out */
	__u64 memory[MEMTYPE_CALL_WORDS];
	__u64 address;		/* the function's; in 0: only the addresses below are wanted */
	/* out */
	__s32 error;		/* why it can't be called: positive errno */
	__u32 page_bytes;	/* the size of a struct page */
	__u64 returned;
	__u64 direct_map;	/* the address of physical address 0 */
	__u64 page_array;	/* the address of its struct page */
};

/* A range of the kernel's own addresses. */
struct memtype_kernel_pages {
	__u64 address;
	__u64 pages;
	__u64 start;		/* the physical address that it may map */
	__u32 maps;		/* out: it does, all of it */
	__u32 reserved;
	struct memtype_page_table page_table;	/* out */
};

#define MEMTYPE_IOC 'M'
#define MEMTYPE_VERIFY		_IOWR(MEMTYPE_IOC, 0x40, struct memtype_request)
#define MEMTYPE_MAP		_IOWR(MEMTYPE_IOC, 0x41, struct memtype_request)
#define MEMTYPE_RELEASE		_IOWR(MEMTYPE_IOC, 0x42, struct memtype_handle)
#define MEMTYPE_READ_MAPPING	_IOWR(MEMTYPE_IOC, 0x43, struct memtype_handle)
#define MEMTYPE_PREPARE		_IOW(MEMTYPE_IOC, 0x44, struct memtype_prepare)
#define MEMTYPE_RESULT		_IOR(MEMTYPE_IOC, 0x45, struct memtype_request)
#define MEMTYPE_ADOPT		_IOW(MEMTYPE_IOC, 0x46, struct memtype_address)
#define MEMTYPE_READ_PAGE_TABLE	_IOWR(MEMTYPE_IOC, 0x47, struct memtype_address)
#define MEMTYPE_ALLOCATE_RAM	_IOWR(MEMTYPE_IOC, 0x48, struct memtype_ram)
#define MEMTYPE_TRACKED		_IOWR(MEMTYPE_IOC, 0x49, struct memtype_tracked)
#define MEMTYPE_LOOKUP		_IOWR(MEMTYPE_IOC, 0x4a, struct memtype_lookup)
#define MEMTYPE_SET_OWNER	_IOW(MEMTYPE_IOC, 0x4b, struct memtype_owner)
#define MEMTYPE_SET_POLICY	_IOW(MEMTYPE_IOC, 0x4c, struct memtype_policy)
/* Takes the pages out of the page tables of all processes that map them through this device. */
#define MEMTYPE_ZAP		_IOW(MEMTYPE_IOC, 0x50, struct memtype_range)
/* Kills the calling process, in the middle of what it does when the moment comes. */
#define MEMTYPE_KILL_AT		_IOW(MEMTYPE_IOC, 0x51, struct memtype_kill)
/* Releases every driver's mappings and RAM, and goes back to the default policy. */
#define MEMTYPE_RESET		_IO(MEMTYPE_IOC, 0x4e)
#define MEMTYPE_READ_REGISTERS	_IOWR(MEMTYPE_IOC, 0x4d, struct memtype_registers)
/* EPERM: this machine's owner hasn't allowed tests to use that memory. */
#define MEMTYPE_MAY_USE		_IOW(MEMTYPE_IOC, 0x52, struct memtype_range)
#define MEMTYPE_STATISTICS	_IOR(MEMTYPE_IOC, 0x53, struct memtype_statistics)
/* RAM of ALLOCATE_RAM back to the kernel, as it is. */
#define MEMTYPE_FREE_RAM	_IOWR(MEMTYPE_IOC, 0x55, struct memtype_request)
/* ENODATA: nothing is mapped there; EXDEV: not one piece of memory, with one type. */
#define MEMTYPE_MAPPED		_IOWR(MEMTYPE_IOC, 0x54, struct memtype_address)
#define MEMTYPE_SEED		_IOW(MEMTYPE_IOC, 0x60, struct memtype_seed)
#define MEMTYPE_OBSERVATION	_IOR(MEMTYPE_IOC, 0x61, struct memtype_observation_status)
#define MEMTYPE_OBSERVED	_IOWR(MEMTYPE_IOC, 0x62, struct memtype_observed)
#define MEMTYPE_OBSERVE		_IOW(MEMTYPE_IOC, 0x63, struct memtype_observe)
#define MEMTYPE_MM_LIST		_IOWR(MEMTYPE_IOC, 0x64, struct memtype_mm_list)
#define MEMTYPE_BENCHMARK	_IOWR(MEMTYPE_IOC, 0x70, struct memtype_benchmark)
#define MEMTYPE_FAULT		_IOWR(MEMTYPE_IOC, 0x78, struct memtype_fault)
#define MEMTYPE_FAULT_CALLS	_IOWR(MEMTYPE_IOC, 0x79, struct memtype_fault)
#define MEMTYPE_FAULT_END	_IOW(MEMTYPE_IOC, 0x7a, struct memtype_fault)
#define MEMTYPE_KERNEL_CALL	_IOWR(MEMTYPE_IOC, 0x7b, struct memtype_kernel_call)
#define MEMTYPE_KERNEL_PAGES	_IOWR(MEMTYPE_IOC, 0x7c, struct memtype_kernel_pages)

#endif
