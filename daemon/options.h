/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options: what maasd is told. One table drives the command line, the environment, --help and the
 * print-out of --check: `--max-pool-size 1GiB` and `MAAS_MAX_POOL_SIZE=1GiB` say the same, and the
 * command line wins.
 */
#ifndef MAAS_DAEMON_OPTIONS_H
#define MAAS_DAEMON_OPTIONS_H

#include "base/base.h"
#include "slab/slab.h"

#define MAAS_OPTIONS_LISTEN  16	 /* addresses at most */
#define MAAS_OPTIONS_ADDRESS 272 /* an address's text and its NUL */
#define MAAS_OPTIONS_HOSTS   16	 /* names at most */
#define MAAS_OPTIONS_NAME    256 /* a host's name and its NUL */
#define MAAS_OPTIONS_ERROR   512

/* In the order of --help. */
enum maas_option {
	MAAS_OPTION_MAX_POOL_SIZE,
	MAAS_OPTION_SLAB_SIZES,
	MAAS_OPTION_EXTENT_SIZE,
	MAAS_OPTION_PREALLOC,
	MAAS_OPTION_NUMA_NODE,
	MAAS_OPTION_MEMORY_FILE,
	MAAS_OPTION_MAX_SESSIONS,
	MAAS_OPTION_MAX_SESSION_TTL,
	MAAS_OPTION_LISTEN,
	MAAS_OPTION_SOCKET_MODE,
	MAAS_OPTION_SOCKET_GROUP,
	MAAS_OPTION_HTTP_THREADS,
	MAAS_OPTION_MAX_CONNECTIONS,
	MAAS_OPTION_MAX_CONNECTIONS_PER_ADDRESS,
	MAAS_OPTION_MAX_BODY_SIZE,
	MAAS_OPTION_MAX_HEADER_SIZE,
	MAAS_OPTION_CONNECTION_TIMEOUT,
	MAAS_OPTION_HOST,
	MAAS_OPTION_DRAIN_DELAY,
	MAAS_OPTION_DRAIN_TIMEOUT,
	MAAS_OPTION_AUTH_FILE,
	MAAS_OPTION_TLS_CERT,
	MAAS_OPTION_TLS_KEY,
	MAAS_OPTION_TLS_CLIENT_CA,
	MAAS_OPTION_RDMA,
	MAAS_OPTION_RDMA_DEVICE,
	MAAS_OPTION_RDMA_ADDR,
	MAAS_OPTION_RDMA_PORT,
	MAAS_OPTION_RDMA_KEYS,
	MAAS_OPTION_REQUIRE_ISOLATION,
	MAAS_OPTION_MAX_GRANTS,
	MAAS_OPTION_LOG_LEVEL,
	MAAS_OPTION_LOG_FILE,
	MAAS_OPTION_CHECK,
	MAAS_OPTION_VERSION,
	MAAS_OPTION_HELP,
	MAAS_OPTIONS,
};

enum maas_rdma_mode {
	MAAS_RDMA_AUTO,
	MAAS_RDMA_REQUIRED,
	MAAS_RDMA_OFF,
};

/* Strings are borrowed from argv and the environment; NULL where there is none. */
struct maas_options {
	uint64_t given; /* one bit for each enum maas_option that was not left to its default */

	uint64_t max_pool_bytes;
	uint64_t class_bytes[MAAS_SLAB_MAX_CLASSES];
	unsigned int num_classes;
	uint64_t extent_bytes; /* 0: the largest class */
	bool prealloc;
	unsigned int numa_node; /* if given */
	const char *memory_file;
	unsigned int max_sessions;
	unsigned int max_session_ttl_s;

	char listen[MAAS_OPTIONS_LISTEN][MAAS_OPTIONS_ADDRESS];
	unsigned int num_listen;
	unsigned int socket_mode;
	const char *socket_group;		  /* name or number */
	unsigned int http_threads;		  /* 0: one for each CPU, at most 16 */
	unsigned int max_connections;		  /* for each address that is listened at */
	unsigned int max_connections_per_address; /* of clients; if given; 0: no limit */
	uint64_t max_body_bytes;
	uint64_t max_header_bytes;
	unsigned int connection_timeout_s;
	char hosts[MAAS_OPTIONS_HOSTS][MAAS_OPTIONS_NAME];
	unsigned int num_hosts;
	unsigned int drain_delay_s;
	unsigned int drain_timeout_s;
	const char *auth_file;
	const char *tls_cert;
	const char *tls_key;
	const char *tls_client_ca;

	unsigned int rdma; /* enum maas_rdma_mode */
	const char *rdma_device;
	const char *rdma_addr;
	unsigned int rdma_port;
	unsigned int rdma_keys; /* index in auto, window, mr, pool */
	bool require_isolation;
	unsigned int max_grants;

	unsigned int log_level; /* enum maas_log_level */
	const char *log_file;
	bool check;
	bool version;
	bool help;
};

/*
 * Reads argv[1] … argv[argc - 1] and, for what they leave out, the environment through `env`
 * (getenv(3); an empty value counts as none), then the defaults. Prints nothing, ends nothing,
 * keeps no state. On failure `error` names the option, its value and what is accepted.
 * Borrows: argv and the environment, as long as `ret_options` is used. Errors: -EINVAL.
 */
MAAS_MUST_CHECK int maas_options_parse(int argc, char *const *argv, char *(*env)(const char *name),
				       char error[MAAS_OPTIONS_ERROR],
				       struct maas_options *ret_options);

/*
 * What can be asked for and is not in this version: refused by name, with the remedy, never
 * ignored. Errors: -EOPNOTSUPP.
 */
MAAS_MUST_CHECK int maas_options_available(const struct maas_options *options,
					   char error[MAAS_OPTIONS_ERROR]);

static inline bool maas_options_given(const struct maas_options *options, enum maas_option option)
{
	return options->given >> option & 1;
}

/* How many connections one client address may have, 0: as many as all. */
static inline unsigned int maas_options_per_address(const struct maas_options *options)
{
	if (maas_options_given(options, MAAS_OPTION_MAX_CONNECTIONS_PER_ADDRESS))
		return options->max_connections_per_address;
	return options->max_connections < 4 ? 1 : options->max_connections / 4;
}

/*
 * True for an entry of the environment, such as "MAAS_LISTN=…", that looks like an option, is none,
 * and is nothing that the clients, the tests or Kubernetes (for a service `maas`) put there.
 * `advice` then is a sentence that names it, and the option that is like it.
 */
bool maas_options_stray(const char *entry, char advice[MAAS_OPTIONS_ERROR]);
/* Logs a warning for each such entry of environ(7). */
void maas_options_warn_environment(char *const *environment);

/* The text of --help. */
void maas_options_help(struct maas_buf *out);

/* One line `name = value` for each option that has a value. */
void maas_options_print(const struct maas_options *options, struct maas_buf *out);

/* "max-pool-size" and so on; NULL at MAAS_OPTIONS and above. */
const char *maas_options_name(unsigned int option);

/* Writes "MAAS_MAX_POOL_SIZE" and so on. */
#define MAAS_OPTIONS_ENV 40
void maas_options_env_name(enum maas_option option, char text[MAAS_OPTIONS_ENV]);

#endif
