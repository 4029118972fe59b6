/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * What the files of the agent's user half share.
 *
 * Errors: a function that can fail returns 0 or a negative errno, as the module's do. errno itself is
 * read where the call stands that has set it, and nowhere else. One that returns bool answers a
 * question, or says whether its reply or its result may be used. JSON has an errno as it is, positive.
 */
#ifndef AGENT_H
#define AGENT_H

#include <stdbool.h>
#include <stdint.h>

#include "../module/memtype_uapi.h"
#include "buffer.h"
#include "device.h"
#include "request.h"
#include "test_device.h"

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

/*
 * batch.c: many requests in one message, in memory that the host reaches from outside. carry_out is
 * given the text of each, takes it apart, and writes the answer with all that the kernel had to say.
 */
void batch_start(void (*carry_out)(char *text, struct buffer *whole));
void batch_mailbox(const struct request *request, struct buffer *reply);
void batch_run(const struct request *request, struct buffer *reply);
void batch_rest(const struct request *request, struct buffer *reply);

/* The mailbox, for other long messages between two batches. -ENXIO before the host has asked where it is. */
int batch_memory(char **memory, size_t *size);

/* transfer.c: files, by way of the mailbox. */
void transfer_put(const struct request *request, struct buffer *reply);
void transfer_get(const struct request *request, struct buffer *reply);

/* fuzz.c: nonsense for the module, from a process of its own. */
void fuzz_run(const struct request *request, struct buffer *reply);

/* kexec.c */
/* Loads the kernel that is to take this one's place. */
void kexec_load(const struct request *request, struct buffer *reply);
/* Starts it, once the host has its answer. Returns when there is none, or it doesn't start. */
void kexec_run(void);

/* benchmark.c */
void benchmark_run(const struct request *request, struct buffer *reply);

/* fault.c */
void fault_run(const struct request *request, struct buffer *reply);
void fault_run_calls(const struct request *request, struct buffer *reply);
void fault_run_end(const struct request *request, struct buffer *reply);

/* kernel_function.c: functions that the kernel doesn't export, and its own page tables. */
void kernel_function_run_call(const struct request *request, struct buffer *reply);
void kernel_function_run_pages(const struct request *request, struct buffer *reply);

/* operations.c: verbs that the agent itself carries out. False when the verb isn't one of them. */
bool operation_run(const struct request *request, struct buffer *reply);

/* answers.c */
/* "This needs the module, and there is none." */
void answer_no_module(struct buffer *reply);
/* "The machine is somebody's, who has not allowed that." */
void answer_not_allowed(struct buffer *reply);
/* That, or whatever else the module's refusal says, which is a negative errno. */
void answer_refusal(const struct request *request, int error, struct buffer *reply);
void answer_outcome(struct buffer *reply, const struct memtype_request *outcome);
void answer_verdict(struct buffer *reply, const struct memtype_verdict *verdict);
void answer_page_table(struct buffer *reply, const struct memtype_page_table *table);
void answer_record(struct buffer *reply, const struct memtype_record *record);
void answer_registers(const struct memtype_registers *registers, struct buffer *reply);

/* process.c: the agent's side of the user processes. */
void process_start(const struct request *request, struct buffer *reply);
void process_kill(const struct request *request, struct buffer *reply);
void process_maps(const struct request *request, struct buffer *reply);
/* Sends the request's text to the process it names, and takes its answer. */
void process_relay(const struct request *request, const char *text, struct buffer *reply);
/* Ends all processes; returns when their mappings are gone. */
void process_end_all(void);

/* process_serve.c: a process's own side. These two serve the agent, by the socket given, and don't return. */
void process_serve(const char *name, int to_agent) __attribute__((noreturn));
void process_serve_go_on(char **arguments) __attribute__((noreturn));
/* Is this program a process that has just called exec()? */
bool process_serve_is_after_exec(int count, char **arguments);

/* process_calls.c: what a process does when told. */
void process_call(const struct request *request, struct buffer *reply);

/* kcore.c: what the module tells of page tables, where there is none. False, or 0, when that fails. */
bool kcore_open(void);
bool kcore_page_table(const void *start, uint64_t pages, struct memtype_page_table *table);
uint64_t kcore_pat(void);

/* process_ioctl.c */
void process_ioctl_run(const struct request *request, struct buffer *reply);

/* process_mtrr.c */
void process_mtrr_add(const struct request *request, struct buffer *reply);
void process_mtrr_delete(const struct request *request, struct buffer *reply);
void process_mtrr_list(const struct request *request, struct buffer *reply);
/* Which registers are in use on somebody's machine, before anything is done there. */
void process_mtrr_remember(void);
/* Takes back what has been added since to memory that tests may use. */
int process_mtrr_restore(void);

/* observe.c */
/* Counts what was mapped before the module was there. */
int observe_seed(void);
/* Which probes work, and what was not seen. */
void observe_describe(struct buffer *reply);
void observe_run_observation(const struct request *request, struct buffer *reply);
void observe_run_observed(const struct request *request, struct buffer *reply);
void observe_run_observe(const struct request *request, struct buffer *reply);

/* registers.c */
void registers_run(const struct request *request, struct buffer *reply);

/* mm_list.c */
void mm_list_run(const struct request *request, struct buffer *reply);

/* system.c */
#define DEBUGFS "/sys/kernel/debug"
/* Mounts it where it isn't. */
int system_mount_debugfs(void);
/* Loads the module; writes the error and returns false when it can't. */
bool system_load_module(struct buffer *reply);
/* Kernel messages since the last call, as a JSON array of strings. */
void system_log(struct buffer *json);
void system_shell(const struct request *request, struct buffer *reply);
void system_memtype_list(struct buffer *reply);
void system_refresh(const struct request *request, struct buffer *reply);
/* What system_refresh() left to do. */
int system_finish_refresh(void);
void system_describe(struct buffer *reply);

#endif
