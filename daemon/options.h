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

#define MAASD_OPTIONS_LISTEN  16  /* addresses of a kind at most */
#define MAASD_OPTIONS_ADDRESS 272 /* an address's text and its NUL */
#define MAASD_OPTIONS_HOSTS   16  /* names at most */
#define MAASD_OPTIONS_NAME    256 /* a host's name and its NUL */
#define MAASD_OPTIONS_ERROR   512

/* In the order of --help. */
enum maasd_option {
	MAASD_OPTION_MAX_POOL_SIZE,
	MAASD_OPTION_SLAB_SIZES,
	MAASD_OPTION_EXTENT_SIZE,
	MAASD_OPTION_PREALLOC,
	MAASD_OPTION_NUMA_NODE,
	MAASD_OPTION_MEMORY_FILE,
	MAASD_OPTION_MAX_SESSIONS,
	MAASD_OPTION_MAX_SESSION_TTL,
	MAASD_OPTION_LISTEN,
	MAASD_OPTION_LISTEN_METRICS,
	MAASD_OPTION_SOCKET_MODE,
	MAASD_OPTION_SOCKET_GROUP,
	MAASD_OPTION_HTTP_THREADS,
	MAASD_OPTION_MAX_CONNECTIONS,
	MAASD_OPTION_MAX_CONNECTIONS_PER_ADDRESS,
	MAASD_OPTION_MAX_BODY_SIZE,
	MAASD_OPTION_MAX_HEADER_SIZE,
	MAASD_OPTION_CONNECTION_TIMEOUT,
	MAASD_OPTION_HOST,
	MAASD_OPTION_DRAIN_DELAY,
	MAASD_OPTION_DRAIN_TIMEOUT,
	MAASD_OPTION_AUTH_FILE,
	MAASD_OPTION_INSECURE_PLAINTEXT,
	MAASD_OPTION_INSECURE_RDMA,
	MAASD_OPTION_INSECURE_OPEN,
	MAASD_OPTION_TLS_CERT,
	MAASD_OPTION_TLS_KEY,
	MAASD_OPTION_TLS_CLIENT_CA,
	MAASD_OPTION_TLS_CLIENT_CRL,
	MAASD_OPTION_TLS_CLIENT_CERT,
	MAASD_OPTION_RDMA,
	MAASD_OPTION_RDMA_DEVICE,
	MAASD_OPTION_RDMA_ADDR,
	MAASD_OPTION_RDMA_PORT,
	MAASD_OPTION_RDMA_KEYS,
	MAASD_OPTION_REQUIRE_ISOLATION,
	MAASD_OPTION_MAX_GRANTS,
	MAASD_OPTION_LOG_LEVEL,
	MAASD_OPTION_LOG_FILE,
	MAASD_OPTION_CHECK,
	MAASD_OPTION_VERSION,
	MAASD_OPTION_HELP,
	MAASD_OPTIONS,
};

enum maasd_rdma_mode {
	MAASD_RDMA_AUTO,
	MAASD_RDMA_REQUIRED,
	MAASD_RDMA_OFF,
};

struct maasd_addresses {
	char text[MAASD_OPTIONS_LISTEN][MAASD_OPTIONS_ADDRESS];
	unsigned int num;
};

/* Strings are borrowed from argv and the environment; NULL where there is none. */
struct maasd_options {
	uint64_t given; /* one bit for each enum maasd_option that was not left to its default */

	uint64_t max_pool_bytes;
	uint64_t class_bytes[MAAS_SLAB_MAX_CLASSES];
	unsigned int num_classes;
	uint64_t extent_bytes; /* 0: the largest class */
	bool prealloc;
	unsigned int numa_node; /* if given */
	const char *memory_file;
	unsigned int max_sessions;
	unsigned int max_session_ttl_s;

	struct maasd_addresses listen;
	struct maasd_addresses listen_metrics;
	unsigned int socket_mode;
	const char *socket_group;		  /* name or number */
	unsigned int http_threads;		  /* 0: one for each CPU, at most 16 */
	unsigned int max_connections;		  /* for each address of --listen */
	unsigned int max_connections_per_address; /* of clients; if given; 0: no limit */
	uint64_t max_body_bytes;
	uint64_t max_header_bytes;
	unsigned int connection_timeout_s;
	char hosts[MAASD_OPTIONS_HOSTS][MAASD_OPTIONS_NAME];
	unsigned int num_hosts;
	unsigned int drain_delay_s;
	unsigned int drain_timeout_s;
	const char *auth_file;
	const char *tls_cert;
	const char *tls_key;
	const char *tls_client_ca;
	const char *tls_client_crl;
	unsigned int tls_client_cert; /* enum maas_tls_client */

	unsigned int rdma; /* enum maasd_rdma_mode */
	const char *rdma_device;
	const char *rdma_addr;
	unsigned int rdma_port;
	unsigned int rdma_keys; /* index in auto, window, mr, pool */
	bool require_isolation;
	bool insecure_plaintext;
	bool insecure_rdma;
	bool insecure_open;
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
MAAS_MUST_CHECK int maasd_options_parse(int argc, char *const *argv, char *(*env)(const char *name),
					char error[MAASD_OPTIONS_ERROR],
					struct maasd_options *ret_options);

/* Refuses options that do not fit each other, by name and with the remedy. Errors: -EINVAL. */
MAAS_MUST_CHECK int maasd_options_agree(const struct maasd_options *options,
					char error[MAASD_OPTIONS_ERROR]);

/* The first option that asks for something of RDMA by name, so that the server does not start
 * without it; MAASD_OPTIONS: none does. */
enum maasd_option maasd_options_asking_rdma(const struct maasd_options *options);

static inline bool maasd_options_given(const struct maasd_options *options,
				       enum maasd_option option)
{
	return options->given >> option & 1;
}

/* How many connections one client address may have, 0: as many as all. */
static inline unsigned int maasd_options_per_address(const struct maasd_options *options)
{
	if (maasd_options_given(options, MAASD_OPTION_MAX_CONNECTIONS_PER_ADDRESS))
		return options->max_connections_per_address;
	return options->max_connections < 4 ? 1 : options->max_connections / 4;
}

/*
 * True for an entry of the environment, such as "MAAS_LISTN=…", that looks like an option, is none,
 * and is nothing that the clients, the tests or Kubernetes (for a service `maas`) put there.
 * `advice` then is a sentence that names it, and the option that is like it.
 */
bool maasd_options_stray(const char *entry, char advice[MAASD_OPTIONS_ERROR]);
/* Logs a warning for each such entry of environ(7). */
void maasd_options_warn_environment(char *const *environment);

/* The text of --help. */
void maasd_options_help(struct maas_buf *out);

/* One line `name = value` for each option that has a value. */
void maasd_options_print(const struct maasd_options *options, struct maas_buf *out);

/* Writes "MAAS_MAX_POOL_SIZE" and so on. */
#define MAASD_OPTIONS_ENV 40
void maasd_options_env_name(enum maasd_option option, char text[MAASD_OPTIONS_ENV]);

#endif
