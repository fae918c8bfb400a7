/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files of https://: the CA that the server's certificate must come from, and the certificate
 * and key that say whose the handle is. They are read when the handle is opened, and again when
 * they change, so that a certificate is renewed by replacing its file. Curl gets them from memory
 * (a memfd each), because the two halves of a pair are seldom replaced in the same moment. Any
 * thread; `lock` guards what changes.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "client/internal.h"

#define MAX_FILE     ((size_t)4 << 20) /* all CAs of a Debian have 220 KiB */
#define LOOK_MS	     1000
#define CHECK_MS     2000
#define CERT_MARK    "CERTIFICATE-----"
#define KEY_MARK     "PRIVATE KEY-----"
#define CRYPTED_MARK "ENCRYPTED"

static const char *const whats[MAAS_TLS_FILES] = {"CA file", "certificate file", "key file"};

/* The file that the key is in. */
static enum maas_tls_file key_of(const struct maas_tls *tls)
{
	return tls->file[MAAS_TLS_KEY] ? MAAS_TLS_KEY : MAAS_TLS_CERT;
}

/* Constant, unlike the reading. */
static bool has_files(const struct maas_tls *tls)
{
	return tls->file[MAAS_TLS_CA] || tls->file[MAAS_TLS_CERT];
}

/* Who forgot to name the key would be told to hide a certificate. */
static const char *what_of(const struct maas_tls *tls, enum maas_tls_file i)
{
	return i == MAAS_TLS_CERT && key_of(tls) == i
		       ? "no other key file is given, and the certificate file"
		       : whats[i];
}

/* ---- one reading */

static void free_reading(struct maas_tls_reading *reading)
{
	for (int i = 0; i < MAAS_TLS_FILES; i++)
		if (reading->fd[i] >= 0)
			close(reading->fd[i]);
	free(reading);
}

/* What the libraries below curl would not say, or in words of their own; or they would ask the
 * terminal for a passphrase. */
static int check_text(const struct maas_tls *tls, enum maas_tls_file i, const char *text)
{
	const char *path = tls->file[i];

	if (i != MAAS_TLS_KEY && !strstr(text, CERT_MARK))
		return maas_fail(-EINVAL, "%s %s: there is no certificate in it, in PEM", whats[i],
				 path);
	if (i != key_of(tls))
		return 0;
	if (!strstr(text, KEY_MARK))
		return maas_fail(-EINVAL, "%s %s: there is no private key in it, in PEM",
				 what_of(tls, i), path);
	if (strstr(text, CRYPTED_MARK))
		return maas_fail(-EINVAL,
				 "%s %s: its key has a passphrase, and nobody is there to type it: "
				 "openssl pkey -in FILE -out NEW removes it",
				 whats[i], path);
	return 0;
}

/* Connections are kept for the next request whose files have the same names, and nothing else would
 * tell a new certificate from an old one: each reading spells its names in another way. */
static void spell_path(struct maas_tls_reading *reading, enum maas_tls_file i)
{
	static const char slashes[] = "////////////////////////////////";

	snprintf(reading->path[i], sizeof(reading->path[i]), "/proc/self/fd%s/%d",
		 slashes + reading->number % (sizeof(slashes) - 1), reading->fd[i]);
}

static int keep_text(struct maas_tls_reading *reading, enum maas_tls_file i, const char *text,
		     size_t len)
{
	reading->fd[i] = memfd_create("maas-tls", MFD_CLOEXEC);
	if (reading->fd[i] < 0 || write(reading->fd[i], text, len) != (ssize_t)len)
		return maas_fail(-ENOMEM, "%s: no memory for it", whats[i]);
	spell_path(reading, i);
	if (access(reading->path[i], R_OK))
		return maas_fail(-errno,
				 "%s: this process cannot open its own %s: is /proc mounted?",
				 whats[i], reading->path[i]);
	return 0;
}

static int read_one(const struct maas_tls *tls, struct maas_tls_reading *reading,
		    enum maas_tls_file i)
{
	char error[MAAS_FILE_ERROR];
	struct maas_buf text;
	int r = maas_file_read(tls->file[i], MAX_FILE, i == key_of(tls), error, &text);

	if (r)
		return maas_fail(r, "%s %s", what_of(tls, i), error);
	maas_buf_add(&text, "", 1);
	r = text.error ? maas_fail(-ENOMEM, "out of memory") : check_text(tls, i, text.data);
	if (!r)
		r = keep_text(reading, i, text.data, text.len - 1);
	explicit_bzero(text.data, text.cap);
	maas_buf_fini(&text);
	return r;
}

static int read_files(const struct maas_tls *tls, struct maas_tls_reading *reading)
{
	int r = 0;

	for (int i = 0; !r && i < MAAS_TLS_FILES; i++)
		if (tls->file[i])
			r = read_one(tls, reading, (enum maas_tls_file)i);
	return r;
}

/* ---- can they be used? */

/* A socket that listens at a name that the kernel chooses, written to `name`. */
static int listen_somewhere(char *name, size_t size)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	socklen_t len = sizeof(addr.sun_family); /* alone: any name */
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	if (!bind(fd, (struct sockaddr *)&addr, len) && !listen(fd, 1)) {
		len = sizeof(addr);
		if (!getsockname(fd, (struct sockaddr *)&addr, &len)) {
			snprintf(name, size, "%.*s", (int)(len - sizeof(addr.sun_family) - 1),
				 &addr.sun_path[1]);
			return fd;
		}
	}
	close(fd);
	return -EADDRNOTAVAIL;
}

/* Drives the handshake until its first byte is here or it ends. Returns curl's result; 0: the byte.
 */
static int wait_hello(CURLM *multi, int listener)
{
	uint64_t end_ms = maas_clock_ms() + CHECK_MS;
	struct CURLMsg *message = NULL;
	int fd = -1;
	int running = 1;
	ssize_t n = 0;
	char byte;

	while (n != 1 && running && maas_clock_ms() < end_ms) {
		struct curl_waitfd wait = {.events = CURL_WAIT_POLLIN};

		curl_multi_perform(multi, &running);
		if (fd < 0)
			fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		n = fd < 0 ? 0 : read(fd, &byte, 1);
		wait.fd = fd < 0 ? listener : fd;
		if (n != 1 && running)
			curl_multi_poll(multi, &wait, 1, 100, NULL);
	}
	if (fd >= 0)
		close(fd);
	message = curl_multi_info_read(multi, &running);
	/* Some versions of curl read the CAs after they have said hello. */
	if (n == 1 && !(message && message->data.result == CURLE_SSL_CACERT_BADFILE))
		return 0;
	return message ? (int)message->data.result : CURLE_OPERATION_TIMEDOUT;
}

/* Begins a handshake with this thread itself: curl says hello once it has taken all files, and only
 * then. Returns curl's result; 0: the files can be used. */
static int try_hello(const struct maas_tls_reading *reading, CURLM *multi, CURL *easy)
{
	char name[sizeof(((struct sockaddr_un *)NULL)->sun_path) + 1];
	int listener = listen_somewhere(name, sizeof(name));
	int code = CURLE_OUT_OF_MEMORY;

	if (listener < 0)
		return CURLE_COULDNT_CONNECT;
	curl_easy_setopt(easy, CURLOPT_CONNECT_ONLY, 1L);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_PROXY, "");
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, reading->fd[MAAS_TLS_CA] >= 0 ? 1L : 0L);
	if (!maas_tls_set(reading, easy) &&
	    !curl_easy_setopt(easy, CURLOPT_ABSTRACT_UNIX_SOCKET, name) &&
	    !curl_easy_setopt(easy, CURLOPT_URL, "https://localhost") &&
	    !curl_multi_add_handle(multi, easy)) {
		code = wait_hello(multi, listener);
		curl_multi_remove_handle(multi, easy);
	}
	close(listener);
	return code;
}

static int check_usable(const struct maas_tls *tls, const struct maas_tls_reading *reading)
{
	CURL *easy = curl_easy_init();
	CURLM *multi = curl_multi_init();
	int code = easy && multi ? try_hello(reading, multi, easy) : CURLE_OUT_OF_MEMORY;

	curl_easy_cleanup(easy);
	if (multi)
		curl_multi_cleanup(multi);
	switch (code) {
	case 0:
		return 0;
	case CURLE_OUT_OF_MEMORY:
		return maas_fail(-ENOMEM, "out of memory");
	case CURLE_COULDNT_CONNECT:
	case CURLE_OPERATION_TIMEDOUT:
		return maas_fail(-EAGAIN, "the files of TLS cannot be tried out: no socket");
	case CURLE_SSL_CACERT_BADFILE:
		break;
	default:
		if (tls->file[MAAS_TLS_CERT])
			return maas_fail(-EINVAL,
					 "the key in %s is not that of the certificate in %s, or "
					 "one of them is damaged",
					 tls->file[key_of(tls)], tls->file[MAAS_TLS_CERT]);
	}
	return maas_fail(-EINVAL, "%s %s: no certificate in it can be used", whats[MAAS_TLS_CA],
			 tls->file[MAAS_TLS_CA]);
}

/* Owns: the caller, free_reading(). */
static int make_reading(const struct maas_tls *tls, unsigned int number,
			struct maas_tls_reading **ret_reading)
{
	struct maas_tls_reading *reading = calloc(1, sizeof(*reading));
	int r;

	if (!reading)
		return maas_fail(-ENOMEM, "out of memory");
	reading->number = number;
	reading->users = 1;
	for (int i = 0; i < MAAS_TLS_FILES; i++)
		reading->fd[i] = -1;
	r = read_files(tls, reading);
	if (!r)
		r = check_usable(tls, reading);
	if (r)
		free_reading(reading);
	else
		*ret_reading = reading;
	return r;
}

/* ---- life */

static int take_name(const struct maas_url *url, const char *option, const char *variable,
		     const char **name)
{
	if (*name && **name && !url->tls)
		return maas_fail(-EINVAL, "%s is for https://, and the URL is %s", option,
				 url->text);
	if (!*name && url->tls)
		*name = getenv(variable);
	if (*name && !**name)
		*name = NULL;
	return 0;
}

static int take_names(const struct maas_url *url, struct maas_options *options)
{
	int r = take_name(url, "ca_file", "MAAS_CA_FILE", &options->ca_file);

	if (!r)
		r = take_name(url, "cert_file", "MAAS_CERT_FILE", &options->cert_file);
	if (!r)
		r = take_name(url, "key_file", "MAAS_KEY_FILE", &options->key_file);
	if (!r)
		r = take_name(url, "server_name", "MAAS_SERVER_NAME", &options->server_name);
	if (!r && options->key_file && !options->cert_file)
		r = maas_fail(-EINVAL, "key_file %s without a cert_file: give both",
			      options->key_file);
	return r;
}

static int copy_names(struct maas_tls *tls, struct maas_options *options)
{
	const char **names[MAAS_TLS_FILES] = {&options->ca_file, &options->cert_file,
					      &options->key_file};

	for (int i = 0; i < MAAS_TLS_FILES; i++) {
		tls->file[i] = *names[i] ? strdup(*names[i]) : NULL;
		if (*names[i] && !tls->file[i])
			return maas_fail(-ENOMEM, "out of memory");
		*names[i] = tls->file[i];
	}
	return 0;
}

static struct maas_file_state state_of(const char *path)
{
	struct maas_file_state state = {0};
	struct stat st;

	if (stat(path, &st))
		return state;
	state.dev = st.st_dev;
	state.ino = st.st_ino;
	state.size = st.st_size;
	state.changed = st.st_ctim; /* moves with every change; st_mtim can be set */
	return state;
}

static bool same_state(const struct maas_file_state *a, const struct maas_file_state *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
	       a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec;
}

static void see(const struct maas_tls *tls, struct maas_file_state seen[MAAS_TLS_FILES])
{
	memset(seen, 0, MAAS_TLS_FILES * sizeof(*seen));
	for (int i = 0; i < MAAS_TLS_FILES; i++)
		if (tls->file[i])
			seen[i] = state_of(tls->file[i]);
}

int maas_tls_init(struct maas_tls *tls, const struct maas_url *url, struct maas_options *options)
{
	int r = take_names(url, options);

	if (!r && url->tls && !(curl_version_info(CURLVERSION_NOW)->features & CURL_VERSION_SSL))
		r = maas_fail(-EPROTONOSUPPORT, "%s: libcurl was built without TLS here",
			      url->text);
	if (!r)
		r = copy_names(tls, options);
	if (r || !has_files(tls))
		return r;
	see(tls, tls->seen); /* before reading: what changes meanwhile is seen at the next look */
	tls->look_ms = maas_clock_ms() + LOOK_MS;
	r = make_reading(tls, 0, &tls->reading);
	if (!r)
		pthread_mutex_init(&tls->lock, NULL);
	return r;
}

void maas_tls_fini(struct maas_tls *tls)
{
	if (tls->reading) {
		free_reading(tls->reading);
		pthread_mutex_destroy(&tls->lock);
	}
	for (int i = 0; i < MAAS_TLS_FILES; i++)
		free(tls->file[i]);
	memset(tls, 0, sizeof(*tls));
}

void maas_tls_close_fds(struct maas_tls *tls)
{
	for (int i = 0; tls->reading && i < MAAS_TLS_FILES; i++)
		if (tls->reading->fd[i] >= 0)
			close(tls->reading->fd[i]);
}

/* ---- other files */

static void do_put(struct maas_tls_reading *reading)
{
	if (!--reading->users)
		free_reading(reading);
}

/* Holds the lock. `again`: also what was refused before. */
static void look(struct maas_tls *tls, bool again)
{
	struct maas_file_state seen[MAAS_TLS_FILES];
	struct maas_tls_reading *reading;
	bool same = true;

	see(tls, seen);
	for (int i = 0; i < MAAS_TLS_FILES; i++)
		same = same && same_state(&seen[i], &tls->seen[i]);
	tls->look_ms = maas_clock_ms() + LOOK_MS;
	if (same && !(again && tls->refused))
		return;
	memcpy(tls->seen, seen, sizeof(seen));
	tls->refused = make_reading(tls, tls->reading->number + 1, &reading) != 0;
	if (tls->refused) {
		if (!same)
			log_warn("%s; what the files had before stays in use", maas_error());
		return;
	}
	do_put(tls->reading);
	tls->reading = reading;
}

struct maas_tls_reading *maas_tls_get(struct maas_tls *tls)
{
	struct maas_tls_reading *reading;

	if (!has_files(tls))
		return NULL;
	pthread_mutex_lock(&tls->lock);
	if (maas_clock_ms() >= tls->look_ms) {
		look(tls, false);
		maas_error_clear(); /* the request goes on */
	}
	reading = tls->reading;
	reading->users++;
	pthread_mutex_unlock(&tls->lock);
	return reading;
}

void maas_tls_put(struct maas_tls *tls, struct maas_tls_reading *reading)
{
	if (!reading)
		return;
	pthread_mutex_lock(&tls->lock);
	do_put(reading);
	pthread_mutex_unlock(&tls->lock);
}

bool maas_tls_is_other(struct maas_tls *tls, unsigned int number)
{
	bool other;

	if (!has_files(tls))
		return false;
	pthread_mutex_lock(&tls->lock);
	if (tls->reading->number == number)
		look(tls, true);
	other = tls->reading->number != number;
	pthread_mutex_unlock(&tls->lock);
	return other;
}

int maas_tls_set(const struct maas_tls_reading *reading, CURL *easy)
{
	static const CURLoption options[MAAS_TLS_FILES] = {CURLOPT_CAINFO, CURLOPT_SSLCERT,
							   CURLOPT_SSLKEY};

	for (int i = 0; i < MAAS_TLS_FILES; i++)
		if (reading->fd[i] >= 0 && curl_easy_setopt(easy, options[i], reading->path[i]))
			return -ENOMEM;
	/* Or curl trusts the machine's CAs, too. */
	if (reading->fd[MAAS_TLS_CA] >= 0)
		curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
	return 0;
}
