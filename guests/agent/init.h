/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* What the agent does as the init of a guest of our own. Elsewhere these do nothing. */
#ifndef INIT_H
#define INIT_H

#include <stdbool.h>

bool init_is_us(void);
int init_mount(void);
/* Without an agent such a guest is of no use. */
void init_power_off(void);
void init_offer_shell(void);

#endif
