// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The MTRRs through /proc/mtrr: what the X server did before there was PAT. A
 * line that is written adds a range for good; one added with MTRRIOC_ADD_ENTRY
 * goes with the file (Documentation/arch/x86/mtrr.rst; mtrr_close() in
 * arch/x86/kernel/cpu/mtrr/if.c, 5.10 to 7.3).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <asm/mtrr.h>

#include "agent.h"
#include "allowed.h"
#include "file.h"

#define PROC_MTRR "/proc/mtrr"

/* As arch/x86/kernel/cpu/mtrr/if.c spells them. */
static const char *const type_names[] = {
	[MEMTYPE_UC] = "uncachable",	   [MEMTYPE_WC] = "write-combining",
	[MEMTYPE_WT] = "write-through",	   [MEMTYPE_WP] = "write-protect",
	[MEMTYPE_WB] = "write-back",
};

static int process_mtrr_write_line(const char *line)
{
	int file = open(PROC_MTRR, O_WRONLY | O_CLOEXEC);
	int error = 0;

	if (file < 0)
		return -errno;
	if (write(file, line, strlen(line)) < 0)
		error = -errno;
	close(file);
	return error;
}

static int process_mtrr_add_for_file(uint64_t base, uint64_t size, uint64_t memtype)
{
	/* Never closed: the end of the process, or exec(), does that. Children have it too. */
	static int file = -1;
	struct mtrr_sentry range = {
		.base = base,
		.size = (unsigned int)size,
		.type = (unsigned int)memtype,
	};

	if (range.size != size)
		return -EOVERFLOW;
	if (file < 0)
		file = open(PROC_MTRR, O_WRONLY | O_CLOEXEC);
	return file < 0 || ioctl(file, MTRRIOC_ADD_ENTRY, &range) ? -errno : 0;
}

/* The kernel's answer, and what it then shows: null to a process that may not read it. */
static void process_mtrr_answer(int error, struct buffer *reply)
{
	struct buffer text = { 0 };

	buffer_print(reply, "{\"errno\": %d, \"text\": ", -error);
	if (file_read(PROC_MTRR, &text))
		buffer_print(reply, "null");
	else
		buffer_json(reply, text.data, text.length);
	buffer_print(reply, "}");
	buffer_free(&text);
}

static bool process_mtrr_may_change(uint64_t base, uint64_t size, struct buffer *reply)
{
	uint64_t first = base & ~(PAGE_BYTES - 1);
	uint64_t last = (base + size - 1) | (PAGE_BYTES - 1);

	return allowed_memory(first, last < first ? 0 : (last - first + 1) / PAGE_BYTES, reply);
}

struct mtrr {
	bool used;
	uint64_t base, size;
	unsigned int count;	/* how often it was asked for */
};

/* The registers in use, each at its number. */
static void process_mtrr_read_registers(struct mtrr registers[MEMTYPE_VARIABLE_REGISTERS])
{
	unsigned long long base, size;
	unsigned int number, count;
	char line[256], unit;
	FILE *file = fopen(PROC_MTRR, "re");

	memset(registers, 0, MEMTYPE_VARIABLE_REGISTERS * sizeof(*registers));
	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "reg%u: base=%llx (%*uMB), size=%llu%cB, count=%u:", &number, &base, &size,
			   &unit, &count) == 5 && number < MEMTYPE_VARIABLE_REGISTERS)
			registers[number] =
				(struct mtrr){ true, base, size << (unit == 'M' ? 20 : 10), count };
	if (file)
		fclose(file);
}

static struct mtrr found[MEMTYPE_VARIABLE_REGISTERS];

void process_mtrr_remember(void)
{
	process_mtrr_read_registers(found);
}

static bool process_mtrr_same(const struct mtrr *one, const struct mtrr *other)
{
	return one->used == other->used && one->base == other->base && one->size == other->size;
}

int process_mtrr_restore(void)
{
	struct mtrr present[MEMTYPE_VARIABLE_REGISTERS];
	struct buffer nowhere = { 0 };
	unsigned int n, count;
	int error = 0;
	char line[64];

	process_mtrr_read_registers(present);
	for (n = 0; n < MEMTYPE_VARIABLE_REGISTERS; n++) {
		/* What lies elsewhere can't be ours. */
		if (!present[n].used ||
		    !process_mtrr_may_change(present[n].base, present[n].size, &nowhere))
			continue;
		count = process_mtrr_same(&present[n], &found[n]) ? found[n].count : 0;
		snprintf(line, sizeof(line), "disable=%u\n", n);
		for (; !error && present[n].count > count; present[n].count--)
			error = process_mtrr_write_line(line);
	}
	buffer_free(&nowhere);
	return error;
}

void process_mtrr_add(const struct request *request, struct buffer *reply)
{
	uint64_t base, size, memtype, held;
	char line[128];

	if (!request_number(request, "base", &base, reply) ||
	    !request_number(request, "size", &size, reply) ||
	    !request_number(request, "memtype", &memtype, reply) ||
	    !request_number(request, "held", &held, reply))
		return;
	if (memtype >= ARRAY_SIZE(type_names) || !type_names[memtype]) {
		buffer_error(reply, "mtrr_add: memtype=%llu is no type of an MTRR",
			     (unsigned long long)memtype);
		return;
	}
	if (!process_mtrr_may_change(base, size, reply))
		return;
	if (held) {
		process_mtrr_answer(process_mtrr_add_for_file(base, size, memtype), reply);
		return;
	}
	snprintf(line, sizeof(line), "base=%#llx size=%#llx type=%s\n", (unsigned long long)base,
		 (unsigned long long)size, type_names[memtype]);
	process_mtrr_answer(process_mtrr_write_line(line), reply);
}

void process_mtrr_delete(const struct request *request, struct buffer *reply)
{
	struct mtrr registers[MEMTYPE_VARIABLE_REGISTERS];
	uint64_t index;
	char line[64];

	if (!request_number(request, "index", &index, reply))
		return;
	process_mtrr_read_registers(registers);
	if (index < MEMTYPE_VARIABLE_REGISTERS &&
	    !process_mtrr_may_change(registers[index].base, registers[index].size, reply))
		return;
	snprintf(line, sizeof(line), "disable=%llu\n", (unsigned long long)index);
	process_mtrr_answer(process_mtrr_write_line(line), reply);
}

void process_mtrr_list(const struct request *request, struct buffer *reply)
{
	struct buffer text = { 0 };
	int error = file_read(PROC_MTRR, &text);

	if (error) {
		buffer_error(reply, "the kernel has no %s (no MTRRs?): %s", PROC_MTRR, strerror(-error));
	} else {
		buffer_print(reply, "{\"text\": ");
		buffer_json(reply, text.data, text.length);
		buffer_print(reply, "}");
	}
	buffer_free(&text);
}
