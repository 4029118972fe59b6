/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The agent's port. One request, one reply, each a line:
 *
 *	@SEQUENCE:TOKEN verb key=value key=value *CRC
 *	@SEQUENCE:TOKEN {"json": ...} *CRC
 *
 * SEQUENCE is decimal. TOKEN is the request's own, up to 32 characters, and returns with the
 * answer: nobody else in the guest can have prepared that. CRC is the CRC-32 of zlib, eight
 * hexadecimal digits, of everything from "@" to the byte before " *". Values are percent-encoded.
 *
 * Serial lines lose characters. A line that doesn't check is answered with
 * sequence 0 and an error; the host then sends its request again, and a
 * request with the sequence of the last one is answered from memory, without
 * being carried out a second time.
 *
 * A line "alive" says that the host is there, and is not answered.
 *
 * A request that takes longer than a second is accompanied by a heartbeat,
 * @0 {"busy": SECONDS}: see heartbeat.c.
 */
#ifndef PROTOCOL_H
#define PROTOCOL_H

#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"
#include "request.h"

#define TOKEN_LENGTH 33

/* The CRC-32 of zlib. */
uint32_t protocol_crc(const char *bytes, size_t length);

/* Opens a serial device raw, or takes standard input and output for "-". */
int protocol_open(const char *device);
/* Has the other side gone? Never so on a serial line. */
bool protocol_closed(void);
/* How many bytes have come so far: somebody is there. */
unsigned long protocol_received(void);
/* Reads one good request; answers bad and repeated ones itself. Returns false when the port is gone. */
bool protocol_read(char text[REQUEST_LENGTH]);
void protocol_reply(const struct buffer *json);
/* An announcement nobody asked for: sequence 0. */
void protocol_announce(const struct buffer *json);
/* Returns when all of that has left the machine. */
void protocol_drain(void);

#endif
