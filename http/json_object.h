/* SPDX-License-Identifier: Apache-2.0 */
/* JSON objects into structs, by a table of their fields; every refusal names the field. */
#ifndef MAAS_HTTP_JSON_OBJECT_H
#define MAAS_HTTP_JSON_OBJECT_H

#include "http/parse.h"

enum kind {
	KIND_NUMBER, /* uint64_t, from min to max */
	KIND_STRING, /* char[size], from 1 byte */
	KIND_BOOL,
};

struct field {
	const char *name;
	enum kind kind;
	bool required;
	size_t offset; /* of the value in the body's struct */
	uint64_t min;
	uint64_t max;	    /* of a string: its array's size */
	const char *wanted; /* of a string: what it should be, in words */
};

#define WANT_ID "an id, as a string of 36 characters"

struct shape {
	const char *example;
	const struct field *fields;
	size_t num_fields;
};

/* Fills `fault`; returns -EINVAL. */
int maas_http_refuse(struct maas_http_fault *fault, const char *code, const char *fmt, ...)
	MAAS_PRINTF(3, 4);

/*
 * The JSON object that a text is; the caller's, json_decref(). The object may take a hundred times
 * the memory of its text: for short texts. Errors: -EINVAL, -ENOMEM.
 */
MAAS_MUST_CHECK int maas_http_json_load(const char *text, size_t len, const char *example,
					json_t **ret_object, struct maas_http_fault *fault);

/* Fills `body`, which the caller has set to its defaults, from the object's fields. */
MAAS_MUST_CHECK int maas_http_json_fill(const struct shape *shape, json_t *object, void *body,
					struct maas_http_fault *fault);

#endif
