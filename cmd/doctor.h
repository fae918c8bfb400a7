/* SPDX-License-Identifier: Apache-2.0 */
/* The report of `maas doctor`, to which its parts add findings. */
#ifndef MAAS_CMD_DOCTOR_H
#define MAAS_CMD_DOCTOR_H

#include "cmd/cmd.h"

#define FINDING_BYTES 256

enum grade { FINE, NOTE, WARNING, PROBLEM };

struct report {
	json_t *list; /* NULL: print each finding at once */
	enum grade worst;
};

/* One finding, and what to do about it (NULL: nothing). */
void doctor_find(struct report *report, enum grade grade, const char *what, const char *remedy,
		 const char *fmt, ...) MAAS_PRINTF(5, 6);

/* The first line of a small file, "" when it cannot be read. */
const char *doctor_read_line(const char *path, char line[FINDING_BYTES]);

/* This host's RDMA devices, ports and limits. */
void doctor_check_rdma(struct report *report);
/* The files of https://, and the server's side of it; with another URL nothing. */
void doctor_check_tls(struct report *report, const struct cmd_context *context);
/* The RDMA part of a server's /health. */
void doctor_check_server_rdma(struct report *report, const json_t *health);

#endif
