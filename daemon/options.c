/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The options: from the command line, the environment and the table's defaults into one struct.
 * Called by the main thread, before any other starts.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>

#include "daemon/options_table.h"

#define HOST_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
#define LISTEN_WANTED	"PORT, HOST:PORT, [IPV6]:PORT or unix:PATH, such as 127.0.0.1:3000"
#define ANY_HOST	"0.0.0.0:"

/* Where a value was found, for the messages: "--max-pool-size" or "MAAS_MAX_POOL_SIZE". */
struct source {
	const char *name;
	char *error;
};

static int refuse(const struct source *source, const char *value, const char *fmt, ...)
	MAAS_PRINTF(3, 4);

static int refuse(const struct source *source, const char *value, const char *fmt, ...)
{
	char wanted[256];
	va_list args;

	va_start(args, fmt);
	vsnprintf(wanted, sizeof(wanted), fmt, args);
	va_end(args);
	snprintf(source->error, MAASD_OPTIONS_ERROR, "%.64s \"%.128s\": it must be %s",
		 source->name, value, wanted);
	return -EINVAL;
}

/* ---- values, one function for each kind */

static int set_switch(const struct source *source, const char *value, bool *ret_on)
{
	static const char *const words[] = {"no", "yes", "0", "1", "false", "true", "off", "on"};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(words); i++)
		if (!strcasecmp(value, words[i])) {
			*ret_on = i % 2;
			return 0;
		}
	return refuse(source, value, "yes or no");
}

static int set_size(const struct maasd_option_row *row, const struct source *source,
		    const char *value, uint64_t *ret_bytes)
{
	char min[MAAS_SIZE_TEXT];
	char max[MAAS_SIZE_TEXT];
	uint64_t bytes;

	if (maas_size_parse(value, &bytes) || bytes < row->min || bytes > row->max)
		return refuse(source, value, "a size from %s to %s, such as 65536, 64KiB or 1MiB",
			      maas_size_format(row->min, min), maas_size_format(row->max, max));
	*ret_bytes = bytes;
	return 0;
}

/* Digits alone: "1k" or "0x10" is not a number of threads. */
static int set_number(const struct maasd_option_row *row, const struct source *source,
		      const char *value, unsigned int *ret_number)
{
	uint64_t number;

	if (!*value || value[strspn(value, "0123456789")] || maas_size_parse(value, &number) ||
	    number < row->min || number > row->max)
		return refuse(source, value, "a whole number from %llu to %llu",
			      (unsigned long long)row->min, (unsigned long long)row->max);
	*ret_number = (unsigned int)number;
	return 0;
}

static int set_word(const struct maasd_option_row *row, const struct source *source,
		    const char *value, unsigned int *ret_index)
{
	size_t len = strlen(value);
	const char *word = row->value;

	for (unsigned int i = 0; *word; i++) {
		size_t word_len = strcspn(word, "|");

		if (len == word_len && !strncmp(word, value, len)) {
			*ret_index = i;
			return 0;
		}
		word += word_len + (word[word_len] == '|');
	}
	return refuse(source, value, "one of %s", row->value);
}

static int set_text(const struct source *source, const char *value, const char **ret_text)
{
	if (!*value)
		return refuse(source, value, "not empty");
	*ret_text = value;
	return 0;
}

static int set_ip(const struct source *source, const char *value, const char **ret_text)
{
	unsigned char address[sizeof(struct in6_addr)];

	if (inet_pton(AF_INET, value, address) != 1 && inet_pton(AF_INET6, value, address) != 1)
		return refuse(source, value, "an IPv4 or IPv6 address, such as 192.0.2.1");
	*ret_text = value;
	return 0;
}

/* Three or four octal digits: "66" is more likely a slip than a mode. */
static int set_mode(const struct source *source, const char *value, unsigned int *ret_mode)
{
	size_t len = strlen(value);
	unsigned int mode = 0;

	for (const char *at = value; *at >= '0' && *at <= '7' && mode <= 0777; at++) {
		mode = mode * 8 + (unsigned int)(*at - '0');
		len--;
	}
	if (len || strlen(value) < 3 || strlen(value) > 4 || mode > 0777 || !(mode & 0222))
		return refuse(source, value,
			      "an octal file mode up to 0777 with which somebody may write, which "
			      "is to connect, such as 0660");
	*ret_mode = mode;
	return 0;
}

/* ---- lists */

/* "0" to "65535" */
static bool is_port(const char *text)
{
	unsigned int port = 0;

	if (!*text || strlen(text) > 5)
		return false;
	for (; *text; text++) {
		if (!isdigit((unsigned char)*text))
			return false;
		port = port * 10 + (unsigned int)(*text - '0');
	}
	return port <= UINT16_MAX;
}

static bool is_listen_address(const char *text)
{
	const char *colon = strrchr(text, ':');
	size_t len;

	if (!strncmp(text, "unix:", 5))
		return text[5] && strlen(text + 5) < sizeof(((struct sockaddr_un *)0)->sun_path);
	if (!colon || colon == text || !is_port(colon + 1))
		return false;
	len = (size_t)(colon - text);
	if (text[0] == '[')
		return len > 2 && text[len - 1] == ']' && !memchr(text + 1, ']', len - 2);
	return strcspn(text, ":[]/ \t") == len;
}

/* A port alone, "3000" or ":3000", is that port of all interfaces. */
static int add_listen(void *to, const struct source *source, const char *value)
{
	struct maasd_addresses *addresses = to;
	const char *port = value + (value[0] == ':');
	const char *host = is_port(port) ? ANY_HOST : "";
	char *address;

	if (addresses->num == MAASD_OPTIONS_LISTEN)
		return refuse(source, value, "left out: there are already %d addresses",
			      MAASD_OPTIONS_LISTEN);
	if (strlen(value) >= MAASD_OPTIONS_ADDRESS || (!*host && !is_listen_address(value)))
		return refuse(source, value, LISTEN_WANTED);
	address = addresses->text[addresses->num++];
	snprintf(address, MAASD_OPTIONS_ADDRESS, "%s%s", host, *host ? port : value);
	return 0;
}

static int add_host(void *to, const struct source *source, const char *value)
{
	struct maasd_options *options = to;
	size_t len = strlen(value);

	if (options->num_hosts == MAASD_OPTIONS_HOSTS)
		return refuse(source, value, "left out: there are already %d names",
			      MAASD_OPTIONS_HOSTS);
	if (!len || len >= MAASD_OPTIONS_NAME || strspn(value, HOST_CHARACTERS) != len)
		return refuse(source, value, "a host's name without a port, such as maas.local");
	memcpy(options->hosts[options->num_hosts++], value, len + 1);
	return 0;
}

static int add_class(void *to, const struct source *source, const char *value)
{
	struct maasd_options *options = to;
	uint64_t bytes;

	if (maas_size_parse(value, &bytes) || bytes < MAAS_SLAB_MIN_CLASS ||
	    bytes > MAAS_SLAB_MAX_CLASS || bytes % MAAS_SLAB_MIN_CLASS)
		return refuse(source, value,
			      "sizes from %dB to 1GiB, multiples of %d, separated by commas, such "
			      "as 4KiB,1MiB",
			      MAAS_SLAB_MIN_CLASS, MAAS_SLAB_MIN_CLASS);
	for (unsigned int i = 0; i < options->num_classes; i++)
		if (options->class_bytes[i] == bytes)
			return refuse(source, value, "named once");
	if (options->num_classes == MAAS_SLAB_MAX_CLASSES)
		return refuse(source, value, "left out: there are already %d sizes",
			      MAAS_SLAB_MAX_CLASSES);
	options->class_bytes[options->num_classes++] = bytes;
	return 0;
}

/* A list may stand in one value, separated by commas. */
static int add_list(void *to, const struct source *source, const char *value,
		    int (*add)(void *to, const struct source *source, const char *value))
{
	char item[MAASD_OPTIONS_ADDRESS];

	for (;;) {
		size_t len = strcspn(value, ",");
		int r;

		if (len >= sizeof(item))
			return refuse(source, value, "shorter");
		memcpy(item, value, len);
		item[len] = '\0';
		r = add(to, source, item);
		if (r || !value[len])
			return r;
		value += len + 1;
	}
}

/* ---- the three places that options come from */

static int set(struct maasd_options *options, enum maasd_option option, const struct source *source,
	       const char *value)
{
	const struct maasd_option_row *row = &maasd_option_rows[option];
	void *at = (char *)options + row->offset;

	switch (row->kind) {
	case MAASD_KIND_SWITCH:
		return set_switch(source, value, at);
	case MAASD_KIND_SIZE:
		return set_size(row, source, value, at);
	case MAASD_KIND_NUMBER:
		return set_number(row, source, value, at);
	case MAASD_KIND_WORD:
		return set_word(row, source, value, at);
	case MAASD_KIND_TEXT:
		return set_text(source, value, at);
	case MAASD_KIND_IP:
		return set_ip(source, value, at);
	case MAASD_KIND_MODE:
		return set_mode(source, value, at);
	case MAASD_KIND_LISTEN:
		return add_list(at, source, value, add_listen);
	case MAASD_KIND_HOSTS:
		return add_list(options, source, value, add_host);
	case MAASD_KIND_SIZES:
		options->num_classes = 0;
		return add_list(options, source, value, add_class);
	}
	return -EINVAL;
}

/* The option that `arg`, such as "--max-pool-size=1GiB", names; MAASD_OPTIONS: none. */
static enum maasd_option find(const char *arg)
{
	size_t len = strcspn(arg + 2, "=");
	unsigned int option = 0;

	while (option < MAASD_OPTIONS &&
	       (strncmp(maasd_option_rows[option].name, arg + 2, len) != 0 ||
		maasd_option_rows[option].name[len]))
		option++;
	return (enum maasd_option)option;
}

/* What `arg`, which is no option, may have meant. */
static int refuse_argument(const char *arg, char *error)
{
	bool dash = arg[0] == '-' && arg[1] && strcmp(arg, "--") != 0;
	const char *word = arg + strspn(arg, "-");
	char name[MAASD_OPTIONS_ERROR / 4];
	unsigned int meant;

	snprintf(name, sizeof(name), "%.*s", (int)strcspn(word, "="), word);
	meant = dash ? maasd_options_guess(name, false) : MAASD_OPTIONS;
	if (!dash)
		snprintf(error, MAASD_OPTIONS_ERROR,
			 "unexpected argument \"%.128s\"; maasd --help lists the options", arg);
	else if (meant == MAASD_OPTIONS)
		snprintf(error, MAASD_OPTIONS_ERROR,
			 "unknown option %.128s; maasd --help lists the options", arg);
	else
		snprintf(error, MAASD_OPTIONS_ERROR,
			 "unknown option %.128s; did you mean --%s? maasd --help lists the options",
			 arg, maasd_option_rows[meant].name);
	return -EINVAL;
}

/* Takes argv[*at] and, where it is needed, its value behind it; moves `*at` past them. */
static int take_argument(struct maasd_options *options, int argc, char *const *argv, int *at,
			 char *error)
{
	const char *arg = argv[(*at)++];
	char name[MAASD_OPTIONS_ENV] = "--";
	const struct source source = {name, error};
	const char *value;
	enum maasd_option option;

	if (!strcmp(arg, "-h"))
		arg = "--help";
	option = !strncmp(arg, "--", 2) && arg[2] ? find(arg) : MAASD_OPTIONS;
	if (option == MAASD_OPTIONS)
		return refuse_argument(arg, error);
	snprintf(name, sizeof(name), "--%s", maasd_option_rows[option].name);
	value = strchr(arg, '=');
	if (value) {
		value++;
	} else if (maasd_option_rows[option].kind == MAASD_KIND_SWITCH) {
		value = "yes";
	} else if (*at < argc && strncmp(argv[*at], "--", 2) != 0) {
		value = argv[(*at)++];
	} else {
		snprintf(error, MAASD_OPTIONS_ERROR, "%s needs a value: %s %s", name, name,
			 maasd_option_rows[option].value);
		return -EINVAL;
	}
	options->given |= UINT64_C(1) << option;
	return set(options, option, &source, value);
}

/* Kubernetes gives MAAS_RDMA_PORT=tcp://10.0.0.1:18515 to a pod for a service `maas-rdma`. */
static bool is_service_link(const char *value)
{
	return !strncmp(value, "tcp://", 6) || !strncmp(value, "udp://", 6) ||
	       !strncmp(value, "sctp://", 7);
}

static int take_environment(struct maasd_options *options, enum maasd_option option,
			    char *(*env)(const char *name), char *error)
{
	char name[MAASD_OPTIONS_ENV];
	const struct source source = {name, error};
	const char *value;

	if (maasd_options_given(options, option) || maasd_option_rows[option].no_env)
		return 0;
	maasd_options_env_name(option, name);
	value = env(name);
	if (!value || !*value || is_service_link(value))
		return 0;
	options->given |= UINT64_C(1) << option;
	return set(options, option, &source, value);
}

static int take_default(struct maasd_options *options, enum maasd_option option, char *error)
{
	const struct maasd_option_row *row = &maasd_option_rows[option];
	const struct source source = {row->name, error};

	if (maasd_options_given(options, option) || !row->initial)
		return 0;
	return set(options, option, &source, row->initial);
}

int maasd_options_parse(int argc, char *const *argv, char *(*env)(const char *name),
			char error[MAASD_OPTIONS_ERROR], struct maasd_options *ret_options)
{
	struct maasd_options options = {0};
	int r = 0;

	for (int at = 1; at < argc && !r;)
		r = take_argument(&options, argc, argv, &at, error);
	/* --help tells what is wrong in the environment. */
	for (unsigned int i = 0; i < MAASD_OPTIONS && !r && !options.help && !options.version; i++)
		r = take_environment(&options, (enum maasd_option)i, env, error);
	for (unsigned int i = 0; i < MAASD_OPTIONS && !r; i++)
		r = take_default(&options, (enum maasd_option)i, error);
	if (!r)
		*ret_options = options;
	return r;
}
