/* SPDX-License-Identifier: Apache-2.0 */
/* The options of maasd: values, refusals, --help and the manual page. */
#include "daemon/options_table.h"
#include "tests/unit/unit.h"

#define MAX_ARGS  8
#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* The environment of a test: NAME, VALUE, …, NULL. */
static const char *const *environment;

static void no_environment(void)
{
	environment = NULL;
}

static char *fake_getenv(const char *name)
{
	for (const char *const *at = environment; at && *at; at += 2)
		if (!strcmp(at[0], name))
			return (char *)(uintptr_t)at[1];
	return NULL;
}

static int parse(const char *const *args, char *error, struct maasd_options *ret_options)
{
	union {
		const char *in[MAX_ARGS];
		char *out[MAX_ARGS];
	} argv = {{"maasd"}};
	int argc = 1;

	for (; args && *args; args++)
		argv.in[argc++] = *args;
	error[0] = '\0';
	return maasd_options_parse(argc, argv.out, fake_getenv, error, ret_options);
}

static struct maasd_options options; /* of the newest that were taken */

static void parses(const char *const *args)
{
	char error[MAASD_OPTIONS_ERROR];

	if (parse(args, error, &options))
		fail_msg("%s", error);
}

static void says(const char *text, const char *const *words)
{
	for (; *words; words++)
		if (!strstr(text, *words))
			fail_msg("\"%s\" does not say \"%s\"", text, *words);
}

/* Refused, with a sentence that holds all of `words`. */
static void refuses(const char *const *args, const char *const *words)
{
	char error[MAASD_OPTIONS_ERROR];
	struct maasd_options untouched = {.max_sessions = 4711};

	assert_int_equal(parse(args, error, &untouched), -EINVAL);
	assert_int_equal(untouched.max_sessions, 4711);
	says(error, words);
}

/* Each of `values`, in both forms, with a sentence that names the option and holds `words`. */
static void refuses_values(const char *option, const char *const *values, const char *words)
{
	char both[256];

	for (; *values; values++) {
		refuses(ARGS(option, *values), ARGS(option, words));
		snprintf(both, sizeof(both), "%s=%s", option, *values);
		refuses(ARGS(both), ARGS(option, words));
	}
}

TEST(parse__defaults)
{
	static const uint64_t classes[] = {1024, 2048, 4096, 8192, 524288, 1048576, 4194304};

	parses(NULL);
	assert_int_equal(options.given, 0);
	assert_int_equal(options.max_pool_bytes, 1u << 30);
	assert_int_equal(options.num_classes, MAAS_ARRAY_SIZE(classes));
	assert_memory_equal(options.class_bytes, classes, sizeof(classes));
	assert_int_equal(options.extent_bytes, 0);
	assert_int_equal(options.listen.num, 1);
	assert_string_equal(options.listen.text[0], "0.0.0.0:3000");
	assert_int_equal(options.max_session_ttl_s, 3600);
	assert_int_equal(options.max_connections, 10000);
	assert_int_equal(options.max_body_bytes, 4u << 20);
	assert_int_equal(options.max_header_bytes, 16u << 10);
	assert_int_equal(options.connection_timeout_s, 60);
	assert_int_equal(options.drain_timeout_s, 5);
	assert_int_equal(options.rdma, MAASD_RDMA_AUTO);
	assert_int_equal(options.log_level, MAAS_LOG_INFO);
	assert_null(options.log_file);
	assert_false(options.prealloc);
}

TEST(parse__both_forms_of_a_value)
{
	parses(ARGS("--max-pool-size", "2GiB", "--max-sessions=7", "--prealloc"));
	assert_int_equal(options.max_pool_bytes, UINT64_C(2) << 30);
	assert_int_equal(options.max_sessions, 7);
	assert_true(options.prealloc);
	assert_true(maasd_options_given(&options, MAASD_OPTION_MAX_POOL_SIZE));
	assert_false(maasd_options_given(&options, MAASD_OPTION_LISTEN));
	parses(ARGS("--max-sessions=7", "--max-sessions", "8", "--log-level=debug"));
	assert_int_equal(options.max_sessions, 8);
	assert_int_equal(options.log_level, MAAS_LOG_DEBUG);
}

TEST(parse__environment_below_command_line)
{
	environment = ARGS("MAAS_MAX_POOL_SIZE", "3GiB", "MAAS_PREALLOC", "yes", "MAAS_LISTEN",
			   "[::1]:0,unix:/run/maas.sock", "MAAS_MAX_SESSIONS", "9", "MAAS_LOG_FILE",
			   "", "MAAS_RDMA_PORT", "tcp://10.0.0.1:18515", "MAAS_HELP", "yes");
	parses(ARGS("--max-sessions", "10"));
	assert_int_equal(options.max_pool_bytes, UINT64_C(3) << 30);
	assert_int_equal(options.listen.num, 2);
	assert_string_equal(options.listen.text[0], "[::1]:0");
	assert_string_equal(options.listen.text[1], "unix:/run/maas.sock");
	assert_true(options.prealloc);
	assert_null(options.log_file);
	assert_int_equal(options.max_sessions, 10);
	assert_false(options.help);

	parses(ARGS("--listen", "127.0.0.1:1", "--prealloc=no"));
	assert_int_equal(options.listen.num, 1);
	assert_string_equal(options.listen.text[0], "127.0.0.1:1");
	assert_false(options.prealloc);
}

TEST(parse__environment_is_named_when_bad)
{
	environment = ARGS("MAAS_MAX_POOL_SIZE", "lots");
	refuses(NULL, ARGS("MAAS_MAX_POOL_SIZE", "\"lots\"", "a size from 4KiB"));
}

TEST(parse__refuses_by_name)
{
	refuses(ARGS("--colour"), ARGS("--colour", "--help"));
	refuses(ARGS("--max-pool"), ARGS("--max-pool", "--help"));
	refuses(ARGS("extra"), ARGS("\"extra\"", "--help"));
	refuses(ARGS("--"), ARGS("\"--\""));
	refuses(ARGS("-v"), ARGS("unknown option -v;", "--help"));
	refuses(ARGS("--max-pool-size"), ARGS("--max-pool-size needs a value", "SIZE"));
	refuses(ARGS("--log-file", "--check"), ARGS("--log-file needs a value"));
	refuses(ARGS("--log-file="), ARGS("--log-file \"\"", "not empty"));
	refuses(ARGS("--rdma", "maybe"), ARGS("--rdma \"maybe\"", "auto|required|off"));
	refuses(ARGS("--rdma", "auto|off"), ARGS("one of auto|required|off"));
	refuses(ARGS("--log-level", "inf"), ARGS("error|warn|info|debug"));
	refuses(ARGS("--prealloc=perhaps"), ARGS("--prealloc \"perhaps\"", "yes or no"));
	refuses(ARGS("--rdma-addr", "host"), ARGS("--rdma-addr \"host\"", "IPv4 or IPv6"));
}

TEST(parse__tells_which_option_is_meant)
{
	refuses(ARGS("-p", "3999"), ARGS("unknown option -p; did you mean --listen?"));
	refuses(ARGS("--port=3999"), ARGS("did you mean --listen?"));
	refuses(ARGS("--max-poolsize=1GiB"), ARGS("did you mean --max-pool-size?"));
	refuses(ARGS("--verison"), ARGS("did you mean --version?"));
	environment = ARGS("MAAS_RDMA", "perhaps");
	refuses(ARGS("--prealloc"), ARGS("MAAS_RDMA", "one of"));
	parses(ARGS("--help")); /* which says what is right */
	parses(ARGS("--version"));
	no_environment();
	refuses(ARGS("--frobnicate"), ARGS("unknown option --frobnicate; maasd --help"));
}

TEST(parse__number_bounds)
{
	refuses_values("--max-connections",
		       ARGS("0", "1000001", "-1", "+1", "1.5", "0x10", "1k", "", " 10",
			    "99999999999999999999999"),
		       "a whole number from 1 to 1000000");
	parses(ARGS("--max-connections=1"));
	assert_int_equal(options.max_connections, 1);
	parses(ARGS("--max-connections=1000000"));
	assert_int_equal(options.max_connections, 1000000);
}

TEST(parse__size_bounds)
{
	refuses(ARGS("--max-header-size", "1023"), ARGS("from 1KiB to 24KiB"));
	refuses(ARGS("--max-header-size", "24577"), ARGS("from 1KiB to 24KiB"));
	parses(ARGS("--max-header-size", "24KiB"));
	assert_int_equal(options.max_header_bytes, 24576);
	refuses(ARGS("--max-pool-size", "65TiB"), ARGS("to 64TiB"));
	refuses(ARGS("--max-pool-size", "9223372036854775808"), ARGS("to 64TiB"));
}

TEST(parse__hosts)
{
	parses(ARGS("--host", "maas.local", "--host", "a,b"));
	assert_int_equal(options.num_hosts, 3);
	assert_string_equal(options.hosts[0], "maas.local");
	assert_string_equal(options.hosts[2], "b");
	refuses_values("--host", ARGS("a:80", "", "a b", "a,,b", "http://a", "*"),
		       "without a port");
}

TEST(parse__connections_per_address)
{
	parses(ARGS("--max-connections", "1000"));
	assert_int_equal(maasd_options_per_address(&options), 250);
	parses(ARGS("--max-connections", "3"));
	assert_int_equal(maasd_options_per_address(&options), 1);
	parses(ARGS("--max-connections-per-address", "0"));
	assert_int_equal(maasd_options_per_address(&options), 0);
	parses(ARGS("--max-connections-per-address", "7"));
	assert_int_equal(maasd_options_per_address(&options), 7);
}

TEST(parse__addresses)
{
	static const char *const good[] = {"127.0.0.1:0",	  "[::]:65535", "localhost:80",
					   "[fe80::1%eth0]:3000", "unix:/a",	"unix:b:c"};
	char path[160] = "unix:";

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(good); i++) {
		parses(ARGS("--listen", good[i]));
		assert_string_equal(options.listen.text[0], good[i]);
	}
	refuses_values("--listen",
		       ARGS("65536", ":65536", "1.2.3.4", "1.2.3.4:", "1.2.3.4:65536", "::1:3000",
			    "[]:1", "[::1]", "[::1]]:1", "unix:", "h:1x", "a b:1", "http://h:1",
			    ",h:1", "h:1,", "h:000001", ":", "000001", "30a", "::1", "-1"),
		       "HOST:PORT");
	environment = ARGS("MAAS_LISTEN", ":1,65535"); /* all interfaces */
	parses(NULL);
	assert_string_equal(options.listen.text[0], "0.0.0.0:1");
	assert_string_equal(options.listen.text[1], "0.0.0.0:65535");
	memset(path + 5, 'x', 107);
	parses(ARGS("--listen", path));
	path[5 + 107] = 'x';
	refuses(ARGS("--listen", path), ARGS("unix:PATH"));
}

TEST(parse__addresses_for_metrics)
{
	parses(ARGS("--listen", "1"));
	assert_int_equal(options.listen_metrics.num, 0);
	parses(ARGS("--listen-metrics", "3001,unix:/s"));
	assert_int_equal(options.listen.num, 1);
	assert_int_equal(options.listen_metrics.num, 2);
	assert_string_equal(options.listen_metrics.text[0], "0.0.0.0:3001");
	refuses(ARGS("--listen-metrics", "h"), ARGS("--listen-metrics", "HOST:PORT"));
}

TEST(parse__too_many_addresses)
{
	parses(ARGS("--listen", "h:1,h:2,h:3,h:4,h:5,h:6,h:7,h:8", "--listen",
		    "h:9,h:10,h:11,h:12,h:13,h:14,h:15,h:16"));
	assert_int_equal(options.listen.num, 16);
	refuses(ARGS("--listen", "h:1,h:2,h:3,h:4,h:5,h:6,h:7,h:8", "--listen",
		     "h:9,h:10,h:11,h:12,h:13,h:14,h:15,h:16,h:17"),
		ARGS("\"h:17\"", "already 16"));
}

TEST(parse__slab_sizes)
{
	parses(ARGS("--slab-sizes", "1GiB,64,4KiB"));
	assert_int_equal(options.num_classes, 3);
	assert_int_equal(options.class_bytes[0], 1u << 30);
	assert_int_equal(options.class_bytes[1], 64);
	parses(ARGS("--slab-sizes", "1KiB", "--slab-sizes", "2KiB"));
	assert_int_equal(options.num_classes, 1);
	assert_int_equal(options.class_bytes[0], 2048);
	refuses(ARGS("--slab-sizes", "1KiB,1024"), ARGS("\"1024\"", "named once"));
	refuses(ARGS("--slab-sizes", "1000"), ARGS("\"1000\"", "multiples of 64"));
	refuses(ARGS("--slab-sizes", "2GiB"), ARGS("to 1GiB"));
	refuses(ARGS("--slab-sizes", "1KiB,"), ARGS("\"\"", "--slab-sizes"));
}

TEST(parse__cuts_what_is_long)
{
	char arg[4096] = "--max-pool-size=";

	memset(arg + strlen(arg), 'y', sizeof(arg) - strlen(arg) - 1);
	refuses(ARGS(arg), ARGS("a size from"));
	refuses(ARGS("--listen", arg), ARGS("--listen"));
	arg[2] = 'X';
	refuses(ARGS(arg), ARGS("unknown option"));
}

/* ---- what fits what */

static void agree(const char *const *args, int expected, const char *word)
{
	char error[MAASD_OPTIONS_ERROR] = "";

	parses(args);
	assert_int_equal(maasd_options_agree(&options, error), expected);
	says(error, ARGS(word));
}

TEST(agree__refuses_what_does_not_fit)
{
	agree(NULL, 0, "");
	agree(ARGS("--rdma", "off"), 0, "");
	agree(ARGS("--rdma", "required"), 0, "");
	agree(ARGS("--require-isolation", "--rdma", "off"), -EINVAL, "--rdma is off");
	agree(ARGS("--rdma-device", "mlx5_0", "--rdma", "off"), -EINVAL, "--rdma-device asks for");
	agree(ARGS("--rdma", "off", "--rdma-addr", "192.0.2.1"), -EINVAL, "--rdma-addr asks for");
	agree(ARGS("--rdma", "off", "--rdma-keys", "mr"), -EINVAL, "--rdma-keys asks for");
	agree(ARGS("--rdma", "off", "--rdma-keys", "auto", "--rdma-port", "1"), 0, "");
	agree(ARGS("--rdma-device", "mlx5_0"), 0, "");
	agree(ARGS("--require-isolation=no"), 0, "");
	agree(ARGS("--memory-file", "/m"), 0, "");
	agree(ARGS("--auth-file", "/a", "--listen", "127.0.0.1:1,unix:/s"), 0, "");
	agree(ARGS("--auth-file", "/a", "--insecure-plaintext"), 0, "");
	agree(ARGS("--auth-file", "/a", "--tls-cert", "/a", "--tls-key", "/b"), 0, "");
	agree(ARGS("--tls-cert", "/a", "--tls-key", "/b"), 0, "");
	agree(ARGS("--tls-cert", "/a"), -EINVAL, "--tls-cert needs --tls-key");
	agree(ARGS("--tls-key", "/a"), -EINVAL, "--tls-key needs --tls-cert");
	agree(ARGS("--tls-client-ca", "/a"), -EINVAL, "needs --tls-cert");
	agree(ARGS("--tls-cert", "/a", "--tls-key", "/b", "--tls-client-crl", "/c"), -EINVAL,
	      "--tls-client-crl needs --tls-client-ca");
	agree(ARGS("--tls-client-cert", "required"), -EINVAL, "needs --tls-client-ca");
	agree(ARGS("--auth-file", "/a"), -EINVAL, "--listen 0.0.0.0:3000: tokens would travel");
	agree(ARGS("--auth-file", "/a", "--listen", "127.0.0.1:1,:2"), -EINVAL, "0.0.0.0:2");
}

TEST(agree__refuses_sizes_that_do_not_fit)
{
	agree(ARGS("--extent-size", "5000", "--slab-sizes", "1KiB"), -EINVAL,
	      "multiple of the page size");
	agree(ARGS("--extent-size", "4MiB", "--slab-sizes", "8MiB"), -EINVAL, "largest of");
	agree(ARGS("--max-pool-size", "1MiB"), -EINVAL, "smaller than one extent");
	agree(ARGS("--max-pool-size", "64TiB", "--slab-sizes", "64"), -EINVAL, "4294967294 slabs");
	agree(ARGS("--max-pool-size", "1MiB", "--extent-size", "64KiB", "--slab-sizes", "4KiB"), 0,
	      "");
}

/* ---- text */

static char *text_of(struct maas_buf *buf)
{
	maas_buf_add(buf, "", 1);
	assert_int_equal(buf->error, 0);
	return buf->data;
}

TEST(help__names_every_option_in_80_columns)
{
	struct maas_buf buf = {0};
	char *help;

	maasd_options_help(&buf);
	help = text_of(&buf);
	for (unsigned int i = 0; i < MAASD_OPTIONS; i++) {
		char name[64];

		snprintf(name, sizeof(name), "\n  --%s", maasd_option_rows[i].name);
		if (!strstr(help, name))
			fail_msg("--help leaves out --%s", maasd_option_rows[i].name);
	}
	for (char *line = strtok(help, "\n"); line; line = strtok(NULL, "\n"))
		if (strlen(line) > 80)
			fail_msg("longer than 80 columns: %s", line);
	maas_buf_fini(&buf);
}

TEST(print__can_be_given_again)
{
	struct maas_buf buf = {0};

	parses(ARGS("--max-pool-size=2048MiB", "--slab-sizes=64,1k", "--prealloc",
		    "--listen=h:1,unix:/s", "--log-level=warn", "--log-file=/l"));
	maasd_options_print(&options, &buf);
	says(text_of(&buf), ARGS("max-pool-size = 2GiB\n", "slab-sizes = 64B,1KiB\n",
				 "prealloc = yes\n", "listen = h:1,unix:/s\n", "log-level = warn\n",
				 "drain-timeout = 5\n", "log-file = /l\n"));
	assert_null(strstr(buf.data, "numa-node"));
	assert_null(strstr(buf.data, "check"));
	maas_buf_fini(&buf);
}

TEST(env_name__of_an_option)
{
	char text[MAASD_OPTIONS_ENV];

	maasd_options_env_name(MAASD_OPTION_TLS_CLIENT_CA, text);
	assert_string_equal(text, "MAAS_TLS_CLIENT_CA");
}

/* The manual page is maintained by hand: every option stands in it as an item of its list. */
TEST(manual__names_every_option)
{
	FILE *file = fopen(MAAS_MANUAL, "re");
	static char page[65536];
	size_t len;

	assert_non_null(file);
	len = fread(page, 1, sizeof(page) - 1, file);
	fclose(file);
	page[len] = '\0';
	for (unsigned int i = 0; i < MAASD_OPTIONS; i++) {
		char item[80];
		const char *at;

		snprintf(item, sizeof(item), "\n.It Fl -%s", maasd_option_rows[i].name);
		at = strstr(page, item);
		if (!at || !strchr(" \n", at[strlen(item)]))
			fail_msg("maasd.8 leaves out --%s", maasd_option_rows[i].name);
	}
}

TEST(parse__socket_mode)
{
	struct maas_buf text = {0};

	parses(NULL);
	assert_int_equal(options.socket_mode, 0660);
	parses(ARGS("--socket-mode", "600", "--socket-group", "daemon"));
	assert_int_equal(options.socket_mode, 0600);
	assert_string_equal(options.socket_group, "daemon");
	parses(ARGS("--socket-mode=0777"));
	assert_int_equal(options.socket_mode, 0777);
	maasd_options_print(&options, &text);
	says(text_of(&text), ARGS("socket-mode = 0777\n"));
	maas_buf_fini(&text);
	refuses_values("--socket-mode",
		       ARGS("", "66", "888", "0x1b0", "1777", "00660", "rw-rw----", "-660", "660 ",
			    "0440", "000", "0"),
		       "an octal file mode up to 0777 with which somebody may write, which is to "
		       "connect, such as 0660");
	refuses(ARGS("--socket-group="), ARGS("--socket-group", "not empty"));
}

TEST_MAIN(no_environment, NULL)
