/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* The probes of observation, which run where nothing may sleep, and the ring they fill. */
#ifndef OBSERVE_PROBE_H
#define OBSERVE_PROBE_H

#include <linux/sched.h>
#include <linux/types.h>

#include "memtype_uapi.h"

enum probe_operation {
	PROBE_RESERVE,
	PROBE_FREE,
};

/* One call of memtype_reserve() or memtype_free() that has returned. Types are IA32_PAT's encodings. */
struct probe_event {
	/*
	 * When it was entered and when it returned, on a clock that counts these. Of two calls that
	 * overlap in time nobody sees in which order the kernel took them.
	 */
	u64 entered;
	u64 returned;
	u64 start;
	u64 end;		/* exclusive, as the kernel has it */
	int error;
	pid_t pid;
	u8 operation;
	u8 requested;
	u8 granted;
	bool user;
	bool counted;		/* by whoever asked for it */
	char task[TASK_COMM_LEN];
	char caller[MEMTYPE_CALLER_LENGTH];	/* function+offset, and its module */
	char handler[MEMTYPE_CALLER_LENGTH];	/* in mmap(): the function of the file's operations */
	char name[MEMTYPE_NAME_LENGTH];		/* module of the caller, or else its function */
};

/* arrived is called after each event, in atomic context. */
void probe_start(void (*arrived)(void));
void probe_stop(void);

/* Takes the event that returned first. False when there is none. */
bool probe_take(struct probe_event *event);
/* What the clock will show next. */
u64 probe_now(void);
/*
 * When the earliest of the calls under way was entered; without any, what probe_now() gives. All
 * calls that were entered before have returned, and are in the ring.
 */
u64 probe_under_way(void);

/* How many calls have been seen so far. -EAGAIN: one is under way. */
int probe_sequence(u64 *sequence);
/* How many calls were not, since the module was loaded. */
u64 probe_missed(void);

void probe_status(struct memtype_probe probes[MEMTYPE_PROBES]);
/* All that are attached, or none is changed. */
int probe_set_armed(bool armed);

#endif
