/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lease as the client counts it: from the moment a renewal was sent, so that it never believes
 * in a session longer than the server does. A renewal is sent at a third of the lease and, when
 * that failed, again and again until the lease is over. It has a line of its own, so that no call
 * keeps it waiting, and waits for an answer no longer than leaves time for another.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "client/transport.h"

#define RETRY_MS  250
#define THIRDS	  3	    /* of the lease: one until a renewal is sent, one for its answer */
#define MAX_TTL_S 31622400u /* 366 days: no server grants more */

void maas_client_session_init(struct maas_client_session *session)
{
	pthread_cond_init(&session->changed, NULL);
	pthread_mutex_init(&session->open_lock, NULL);
	pthread_mutex_init(&session->lock, NULL);
}

void maas_client_session_fini(struct maas_client_session *session)
{
	maas_line_fini(&session->line);
	pthread_cond_destroy(&session->changed);
	pthread_mutex_destroy(&session->open_lock);
	pthread_mutex_destroy(&session->lock);
}

int maas_client_session_fail_lost(void)
{
	return maas_fail(-EKEYREVOKED,
			 "the session is lost, and what it owned; open a new one with "
			 "maas_reopen()");
}

/* The clock of the lease: unlike that of base.h it goes on while this host is suspended, as the
 * server's does meanwhile. */
static uint64_t lease_clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Holds the lock. What is left of the lease; 0: the session is not live. */
static uint64_t left_ms(const struct maas_client_session *session)
{
	uint64_t now_ms = lease_clock_ms();

	if (session->state != MAAS_SESSION_LIVE || session->lapses_ms <= now_ms)
		return 0;
	return session->lapses_ms - now_ms;
}

/* Holds the lock. */
static bool is_live(const struct maas_client_session *session)
{
	return left_ms(session) > 0;
}

int maas_session_get(struct maas *maas, struct maas_session *ret_session)
{
	struct maas_client_session *session = &maas->session;
	uint64_t left;
	int r = maas_enter(maas);

	if (r)
		return r;
	pthread_mutex_lock(&session->lock);
	memset(ret_session, 0, sizeof(*ret_session));
	ret_session->state = session->state;
	maas_copy_id(ret_session->id, session->id);
	left = left_ms(session);
	ret_session->lease_ms = left < UINT32_MAX ? (uint32_t)left : UINT32_MAX;
	if (!left && session->state == MAAS_SESSION_LIVE)
		ret_session->state = MAAS_SESSION_LOST;
	pthread_mutex_unlock(&session->lock);
	return 0;
}

/* ---- requests */

static void read_ticket(const json_t *answer, struct maas_ticket *ret_ticket)
{
	const json_t *rdma = json_object_get(answer, "rdma");
	const char *text = json_string_value(json_object_get(answer, "ticket"));
	const char *addr = json_string_value(json_object_get(rdma, "addr"));
	json_int_t port = json_integer_value(json_object_get(rdma, "port"));

	memset(ret_ticket, 0, sizeof(*ret_ticket));
	if (!text || strlen(text) != sizeof(ret_ticket->text) - 1)
		return;
	memcpy(ret_ticket->text, text, sizeof(ret_ticket->text));
	if (!addr || strlen(addr) >= sizeof(ret_ticket->addr) || port <= 0 || port > UINT16_MAX)
		return;
	memcpy(ret_ticket->addr, addr, strlen(addr));
	ret_ticket->port = (uint16_t)port;
}

/* The server's answer decides how long the lease is, whatever was asked for. */
static int read_ttl(const json_t *answer, uint64_t *ret_ttl_ms)
{
	uint64_t seconds;
	int r = maas_json_u64(answer, "ttl_seconds", &seconds);

	if (r)
		return r;
	if (!seconds || seconds > MAX_TTL_S)
		return maas_fail(-EPROTO, "the server grants a lease of %llu s; it is 1 to %u",
				 (unsigned long long)seconds, MAX_TTL_S);
	*ret_ttl_ms = seconds * 1000;
	return 0;
}

static int request_open(struct maas *maas, uint64_t deadline_ms, char id[MAAS_ID_BYTES],
			uint64_t *ret_ttl_ms, struct maas_ticket *ret_ticket)
{
	struct maas_request request;
	json_t *answer;
	int r;

	maas_request_init(&request, "POST", "/sessions");
	request.line = &maas->session.line;
	request.json = true;
	request.once = true;
	maas_buf_printf(&request.head, "{\"ttl_seconds\":%u", maas->options.ttl_seconds);
	if (maas->session_name)
		maas_buf_printf(&request.head, ",\"name\":\"%s\"", maas->session_name);
	if (maas->options.session_exclusive)
		maas_buf_str(&request.head, ",\"exclusive\":true");
	maas_buf_str(&request.head, "}");
	r = maas_call_json(maas, &request, deadline_ms, &answer);
	if (!r) {
		r = maas_json_id(answer, "id", id);
		if (!r)
			r = read_ttl(answer, ret_ttl_ms);
		read_ticket(answer, ret_ticket);
		json_decref(answer);
	}
	maas_request_fini(&request);
	return r;
}

/* POSTs nothing to a call of the session. `line`: see struct maas_request. Owns: the caller,
 * json_decref(). */
static int post_to(struct maas *maas, const char *id, const char *call, struct maas_line *line,
		   uint64_t deadline_ms, json_t **ret_answer)
{
	struct maas_request request;
	int r;

	maas_request_init(&request, "POST", "/sessions/%s/%s", id, call);
	request.line = line;
	request.json = true;
	maas_buf_str(&request.head, "{}");
	r = maas_call_json(maas, &request, deadline_ms, ret_answer);
	maas_request_fini(&request);
	return r;
}

static int request_renew(struct maas *maas, const char *id, uint64_t deadline_ms,
			 uint64_t *ret_ttl_ms)
{
	json_t *answer;
	int r;

	maas_token_look(&maas->token);
	r = post_to(maas, id, "renew", &maas->session.line, deadline_ms, &answer);
	if (r)
		return r;
	r = read_ttl(answer, ret_ttl_ms);
	json_decref(answer);
	return r;
}

static int request_ticket(struct maas *maas, const char *id, uint64_t deadline_ms,
			  struct maas_ticket *ret_ticket)
{
	json_t *answer;
	int r = post_to(maas, id, "ticket", NULL, deadline_ms, &answer);

	if (r)
		return r;
	read_ticket(answer, ret_ticket);
	json_decref(answer);
	if (!*ret_ticket->text)
		return maas_fail(-EPROTO, "the server's answer has no ticket");
	return 0;
}

static void request_end(struct maas *maas, const char *id, uint64_t deadline_ms)
{
	struct maas_request request;
	int r;

	maas_request_init(&request, "DELETE", "/sessions/%s", id);
	request.line = &maas->session.line;
	r = maas_call(maas, &request, deadline_ms);
	if (r) /* a server that does not hear of it ends the session when its lease is over */
		maas_error_clear();
	maas_request_fini(&request);
}

/* ---- the thread */

/* Sends one renewal, with the lock dropped meanwhile. Returns 0, or the error that ends the
 * session. */
static int renew(struct maas *maas)
{
	struct maas_client_session *session = &maas->session;
	uint64_t sent_ms = lease_clock_ms();
	uint64_t left = left_ms(session);
	uint64_t most_ms = session->ttl_ms / THIRDS;
	uint64_t ttl_ms = 0;
	char id[MAAS_ID_BYTES];
	int r;

	maas_copy_id(id, session->id);
	pthread_mutex_unlock(&session->lock);
	r = request_renew(maas, id, maas_clock_ms() + (left < most_ms ? left : most_ms), &ttl_ms);
	pthread_mutex_lock(&session->lock);
	if (session->stop || !is_live(session))
		return 0; /* the caller sees why */
	if (!r) {
		session->ttl_ms = ttl_ms;
		session->lapses_ms = sent_ms + ttl_ms;
	} else if (r != -EKEYREVOKED) {
		maas_cond_wait_until(&session->changed, &session->lock, maas_clock_ms() + RETRY_MS);
	}
	return r == -EKEYREVOKED ? r : 0;
}

static void *keep(void *arg)
{
	struct maas *maas = arg;
	struct maas_client_session *session = &maas->session;
	bool lost;
	int error = 0;

	pthread_mutex_lock(&session->lock);
	while (!session->stop && !error) {
		uint64_t early_ms = session->ttl_ms / THIRDS * (THIRDS - 1);
		uint64_t left = left_ms(session);

		if (!left)
			error = session->state == MAAS_SESSION_LOST ? -EKEYREVOKED : -ETIMEDOUT;
		else if (left > early_ms)
			maas_cond_wait_until(&session->changed, &session->lock,
					     maas_clock_ms() + left - early_ms);
		else
			error = renew(maas);
	}
	lost = !session->stop;
	if (lost)
		session->state = MAAS_SESSION_LOST;
	pthread_mutex_unlock(&session->lock);
	if (lost && maas->transport->keys)
		maas->transport->session_lost(maas);
	if (lost && maas->options.session_lost)
		maas->options.session_lost(maas->options.session_lost_arg, error);
	return NULL;
}

/* The thread ends by `stop`, or because the session is not live; a renewal that is under way is cut
 * short. */
static void join_thread(struct maas_client_session *session)
{
	if (session->running) {
		pthread_mutex_lock(&session->lock);
		pthread_cond_broadcast(&session->changed);
		pthread_mutex_unlock(&session->lock);
		maas_line_cut(&session->line);
		pthread_join(session->thread, NULL);
	}
	session->running = false;
	atomic_store(&session->line.cut, false);
}

static void stop_thread(struct maas_client_session *session)
{
	pthread_mutex_lock(&session->lock);
	session->stop = true;
	pthread_mutex_unlock(&session->lock);
	join_thread(session);
	session->stop = false;
}

/* ---- open and end */

/* The end of one session leaves time to open the next. */
static uint64_t half_way(const struct maas *maas, uint64_t deadline_ms)
{
	uint64_t now_ms = maas_clock_ms();
	uint64_t half_ms = deadline_ms > now_ms ? (deadline_ms - now_ms) / 2 : 0;
	uint64_t most_ms = maas->options.connect_timeout_ms;

	return now_ms + (half_ms < most_ms ? half_ms : most_ms);
}

/* Holds open_lock; there is no live session. The thread of a lost one tells of the loss first. */
static int do_open(struct maas *maas, uint64_t deadline_ms)
{
	struct maas_client_session *session = &maas->session;
	struct maas_ticket ticket;
	char id[MAAS_ID_BYTES];
	uint64_t sent_ms;
	uint64_t ttl_ms = 0;
	int r;

	if (!maas->options.ttl_seconds)
		return maas_fail(-EINVAL, "this handle has no session: it was opened without "
					  "ttl_seconds");
	r = maas_line_need(&session->line);
	if (r)
		return r;
	join_thread(session);
	if (*session->id && maas->transport->keys)
		maas->transport->session_lost(maas);
	/* A session that only this side gave up may still hold its name and its memory. */
	if (*session->id)
		request_end(maas, session->id, half_way(maas, deadline_ms));
	sent_ms = lease_clock_ms();
	r = request_open(maas, deadline_ms, id, &ttl_ms, &ticket);
	if (r)
		return r;
	/* Before anybody finds the new session, and is told of what became of the one before. */
	if (maas->transport->keys)
		maas->transport->session_renewed(maas);
	pthread_mutex_lock(&session->lock);
	maas_copy_id(session->id, id);
	session->ticket = ticket;
	session->state = MAAS_SESSION_LIVE;
	session->ttl_ms = ttl_ms;
	session->lapses_ms = sent_ms + ttl_ms;
	pthread_mutex_unlock(&session->lock);
	r = maas_thread_start(&session->thread, keep, maas);
	if (r) {
		request_end(maas, id, deadline_ms);
		pthread_mutex_lock(&session->lock);
		session->state = MAAS_SESSION_LOST;
		pthread_mutex_unlock(&session->lock);
		if (maas->transport->keys)
			maas->transport->session_lost(maas);
		return maas_fail(r, "no thread for the session: %s", strerror(-r));
	}
	session->running = true;
	return 0;
}

/* The state, and the id of a live session. */
static enum maas_session_state look(struct maas_client_session *session, char id[MAAS_ID_BYTES])
{
	enum maas_session_state state;

	pthread_mutex_lock(&session->lock);
	state = session->state;
	if (is_live(session))
		maas_copy_id(id, session->id);
	else if (state == MAAS_SESSION_LIVE)
		state = MAAS_SESSION_LOST;
	pthread_mutex_unlock(&session->lock);
	return state;
}

int maas_reopen(struct maas *maas)
{
	struct maas_client_session *session = &maas->session;
	uint64_t deadline_ms = maas_deadline_ms(maas);
	char id[MAAS_ID_BYTES];
	int r = maas_enter(maas);

	if (r)
		return r;
	pthread_mutex_lock(&session->open_lock);
	if (look(session, id) != MAAS_SESSION_LIVE)
		r = do_open(maas, deadline_ms);
	pthread_mutex_unlock(&session->open_lock);
	if (!r && maas->transport->keys)
		r = maas->transport->connect(maas, deadline_ms);
	return r;
}

/* Opens the first session; another thread may have done so. */
static enum maas_session_state open_first(struct maas *maas, uint64_t deadline_ms,
					  char id[MAAS_ID_BYTES], int *ret_error)
{
	struct maas_client_session *session = &maas->session;
	enum maas_session_state state;

	pthread_mutex_lock(&session->open_lock);
	state = look(session, id);
	if (state == MAAS_SESSION_NONE) {
		*ret_error = do_open(maas, deadline_ms);
		state = look(session, id);
	}
	pthread_mutex_unlock(&session->open_lock);
	return state;
}

/* Without open_lock where there is a session, or was one: who opens another in its place waits for
 * the function that is told of the loss, and that function may be here. */
int maas_client_session_need(struct maas *maas, uint64_t deadline_ms, char id[MAAS_ID_BYTES])
{
	enum maas_session_state state = look(&maas->session, id);
	int r = 0;

	if (state == MAAS_SESSION_NONE)
		state = open_first(maas, deadline_ms, id, &r);
	if (!r && state == MAAS_SESSION_LOST)
		r = maas_client_session_fail_lost();
	return r;
}

int maas_client_session_ticket(struct maas *maas, uint64_t deadline_ms,
			       struct maas_ticket *ret_ticket)
{
	struct maas_client_session *session = &maas->session;
	char id[MAAS_ID_BYTES];
	int r;

	r = maas_client_session_need(maas, deadline_ms, id);
	if (r)
		return r;
	pthread_mutex_lock(&session->lock);
	*ret_ticket = session->ticket;
	memset(&session->ticket, 0, sizeof(session->ticket));
	pthread_mutex_unlock(&session->lock);
	if (*ret_ticket->text)
		return 0;
	r = request_ticket(maas, id, deadline_ms, ret_ticket);
	if (r == -EKEYREVOKED)
		maas_client_session_unknown(maas, id);
	return r;
}

void maas_client_session_unknown(struct maas *maas, const char *id)
{
	struct maas_client_session *session = &maas->session;

	pthread_mutex_lock(&session->lock);
	if (session->state == MAAS_SESSION_LIVE && strcmp(session->id, id) == 0) {
		session->state = MAAS_SESSION_LOST;
		pthread_cond_broadcast(&session->changed);
		maas_line_cut(&session->line);
	}
	pthread_mutex_unlock(&session->lock);
}

void maas_client_session_forget(struct maas *maas)
{
	struct maas_client_session *session = &maas->session;

	maas_client_session_stop(maas);
	maas_client_session_end(maas);
	session->state = MAAS_SESSION_NONE;
	session->id[0] = '\0';
}

void maas_client_session_stop(struct maas *maas)
{
	stop_thread(&maas->session);
}

void maas_client_session_end(struct maas *maas)
{
	if (maas->session.state == MAAS_SESSION_LIVE)
		request_end(maas, maas->session.id,
			    maas_clock_ms() + maas->options.connect_timeout_ms);
}
