/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* A process is killed from inside of the kernel's functions, where it asked for that. */
#ifndef KILL_POINT_H
#define KILL_POINT_H

#include "memtype_uapi.h"

/* The calling process asks for it. */
void kill_point_set(u32 point);

/* Sends the process the SIGKILL it asked for at this point. state_lock is held. */
void kill_point_reached(enum memtype_kill_point point);

#endif
