// SPDX-License-Identifier: GPL-2.0 OR MIT
/* See device.h. */
#include "device.h"

int device_fd = -1;
