/* SPDX-License-Identifier: MIT */
#ifndef HOST_SCHED_H
#define HOST_SCHED_H

/* library.c counts how often others would have been let run. */
void cond_resched(void);

#endif
