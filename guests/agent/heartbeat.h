/* SPDX-License-Identifier: GPL-2.0 OR MIT */
#ifndef HEARTBEAT_H
#define HEARTBEAT_H

/*
 * From now on, while a request is carried out: @0 {"busy": SECONDS} once a second. Ends the
 * program when the host has gone. Returns 0 or a negative errno.
 */
int heartbeat_start(void);

void heartbeat_busy(void);
void heartbeat_idle(void);

#endif
