// SPDX-License-Identifier: GPL-2.0 OR MIT
/* What the module answers, as JSON. */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "agent.h"

static const char *const rule_names[] = {
	[MEMTYPE_RULE_MALFORMED] = "malformed",
	[MEMTYPE_RULE_IMPOSSIBLE] = "impossible",
	[MEMTYPE_RULE_RAM_NOT_WB] = "ram-not-wb",
	[MEMTYPE_RULE_ALIAS] = "alias",
	[MEMTYPE_RULE_EXCLUSIVE] = "exclusive",
	[MEMTYPE_RULE_SMRAM] = "smram",
};

void answer_record(struct buffer *reply, const struct memtype_record *record)
{
	buffer_print(reply, "{\"start\": %llu, \"pages\": %llu, \"memtype\": %u, \"kind\": \"%s\", ",
		     record->start, record->pages, record->memtype,
		     record->kind == MEMTYPE_USER ? "user" : "kernel");
	buffer_print(reply, "\"pid\": %d, \"address\": %llu, \"observed\": %s, \"owner\": ",
		     record->pid, record->address, record->observed ? "true" : "false");
	buffer_json(reply, record->owner, strnlen(record->owner, sizeof(record->owner)));
	buffer_print(reply, "}");
}

void answer_verdict(struct buffer *reply, const struct memtype_verdict *verdict)
{
	static const char *const hazards[] = {
		"mtrr-wb-uncached",
		"mtrr-mixed",
		"mtrr-undefined",
		"mtrr-uncached-combines",
	};
	const char *separator = "";
	unsigned int n;

	buffer_print(reply, "{\"accepted\": %s, \"rule\": ", verdict->error ? "false" : "true");
	if (verdict->error)
		buffer_print(reply, "\"%s\"", rule_names[verdict->rule]);
	else
		buffer_print(reply, "null");
	buffer_print(reply, ", \"errno\": %d, \"hazards\": [", verdict->error);
	for (n = 0; n < ARRAY_SIZE(hazards); n++)
		if (verdict->hazards & 1u << n) {
			buffer_print(reply, "%s\"%s\"", separator, hazards[n]);
			separator = ", ";
		}
	buffer_print(reply, "], \"conflict\": ");
	if (verdict->has_conflict)
		answer_record(reply, &verdict->conflict);
	else
		buffer_print(reply, "null");
	buffer_print(reply, "}");
}

void answer_page_table(struct buffer *reply, const struct memtype_page_table *table)
{
	unsigned int n;

	buffer_print(reply, "{\"truncated\": %s, \"runs\": [", table->truncated ? "true" : "false");
	for (n = 0; n < table->count; n++)
		buffer_print(reply, "%s[%llu, %u, %u]", n ? ", " : "", table->runs[n].entry,
			     table->runs[n].shift, table->runs[n].pages);
	buffer_print(reply, "]}");
}

void answer_registers(const struct memtype_registers *registers, struct buffer *reply)
{
	unsigned int count = registers->mtrr_capability & 0xff, n;

	buffer_print(reply, "{\"cpu\": %u, \"vendor\": ", registers->cpu);
	buffer_json(reply, registers->vendor, strnlen(registers->vendor, sizeof(registers->vendor)));
	buffer_print(reply, ", \"physical_bits\": %u, \"has_pat\": %s, \"has_mtrr\": %s, ",
		     registers->physical_bits, registers->has_pat ? "true" : "false",
		     registers->has_mtrr ? "true" : "false");
	buffer_print(reply, "\"pat\": %llu, \"capability\": %llu, \"default_type\": %llu, ",
		     registers->pat, registers->mtrr_capability, registers->mtrr_default_type);
	if (registers->has_smrr)
		buffer_print(reply, "\"smrr\": [%llu, %llu], ", registers->smrr[0], registers->smrr[1]);
	else
		buffer_print(reply, "\"smrr\": null, ");
	if (registers->has_amd)
		buffer_print(reply, "\"amd\": [%llu, %llu, %llu], ", registers->amd_syscfg,
			     registers->amd_top_mem, registers->amd_top_mem2);
	else
		buffer_print(reply, "\"amd\": null, ");
	buffer_print(reply, "\"cr0\": %llu, \"cr3\": %llu, \"cr4\": %llu, \"fixed\": [",
		     registers->cr0, registers->cr3, registers->cr4);
	for (n = 0; n < MEMTYPE_FIXED_REGISTERS; n++)
		buffer_print(reply, "%s%llu", n ? ", " : "", registers->mtrr_fixed[n]);
	buffer_print(reply, "], \"variable\": [");
	for (n = 0; n < count && n < MEMTYPE_VARIABLE_REGISTERS; n++)
		buffer_print(reply, "%s[%llu, %llu]", n ? ", " : "", registers->mtrr_variable[n][0],
			     registers->mtrr_variable[n][1]);
	buffer_print(reply, "]}");
}

void answer_not_allowed(struct buffer *reply)
{
	buffer_print(reply, "{\"not_allowed\": true}");
}

void answer_refusal(const struct request *request, int error, struct buffer *reply)
{
	if (error == -EPERM)
		answer_not_allowed(reply);
	else if (error == -ENXIO)
		buffer_error(reply, "%s: this memory has no direct map, whose type could be changed",
			     request->verb);
	else
		buffer_error(reply, "%s: the module says %s", request->verb, strerror(-error));
}

void answer_no_module(struct buffer *reply)
{
	buffer_print(reply, "{\"no_module\": true}");
}

void answer_outcome(struct buffer *reply, const struct memtype_request *outcome)
{
	struct memtype_registers registers = { 0 };

	buffer_print(reply, "{\"verdict\": ");
	if (device_fd < 0)
		buffer_print(reply, "null, \"pat\": %llu", (unsigned long long)kcore_pat());
	else
		answer_verdict(reply, &outcome->verdict);
	if (outcome->asked_kernel)
		buffer_print(reply, ", \"kernel\": {\"accepted\": %s, \"errno\": %d}",
			     outcome->kernel_error ? "false" : "true", outcome->kernel_error);
	else
		buffer_print(reply, ", \"kernel\": null");
	if (outcome->handle)
		buffer_print(reply, ", \"handle\": %llu", outcome->handle);
	else
		buffer_print(reply, ", \"handle\": null");
	buffer_print(reply, ", \"address\": %llu, \"page_table\": ",
		     (unsigned long long)outcome->address);
	answer_page_table(reply, &outcome->page_table);
	/* What the types in the entries mean at this moment: MTRRs may change between two operations. */
	if (outcome->handle && !ioctl(device_fd, MEMTYPE_READ_REGISTERS, &registers)) {
		buffer_print(reply, ", \"registers\": ");
		answer_registers(&registers, reply);
	}
	buffer_print(reply, "}");
}
