/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The victim lies in the middle of a region of the server:
 *
 *     |... canary ...|  grant  |... canary ...|
 *                    ^ BEFORE   ^ BEHIND
 *
 * A trial is one operation of a client on a fresh connection. It is refused when it completes with
 * IBV_WC_REM_ACCESS_ERR and no byte of the server changed: nothing else counts as a refusal.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "rdma/internal.h"

#define REGION_BYTES ((size_t)12288)
#define GRANT_AT     5120u
#define GRANT_BYTES  1024u
#define CANARY	     0xa5
#define POISON	     0x5a

/* One mode's keys: `window` binds on the server's queue pair, `mr` registers in its domain. */
struct key {
	struct ibv_mw *mw;
	struct ibv_mr *mr;
	uint32_t rkey;
	uint64_t addr; /* of the grant, as the client writes it */
};

struct bench {
	struct maas_rdma_device *device;
	struct ibv_pd *server_pd; /* session A's; in window mode everybody's */
	struct ibv_pd *other_pd;  /* session B's in mr mode */
	struct ibv_pd *client_pd;
	uint8_t *region; /* of the server */
	uint8_t *local;	 /* of the client */
	struct ibv_mr *region_mr;
	struct ibv_mr *local_mr;
	bool window;
};

/* Logs why a verb that returns a pointer failed: the caller only learns that it did. */
static void failed(const char *what)
{
	log_err("rdma: self-test cannot %s: %s", what, strerror(errno));
}

static int bench_init(struct bench *b, struct maas_rdma_device *device)
{
	memset(b, 0, sizeof(*b));
	b->device = device;
	b->region = mmap(NULL, 2 * REGION_BYTES, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (b->region == MAP_FAILED) {
		b->region = NULL;
		return -ENOMEM;
	}
	b->local = b->region + REGION_BYTES;
	b->server_pd = ibv_alloc_pd(device->verbs);
	b->other_pd = ibv_alloc_pd(device->verbs);
	b->client_pd = ibv_alloc_pd(device->verbs);
	if (!b->server_pd || !b->other_pd || !b->client_pd) {
		failed("allocate protection domains");
		return -EIO;
	}
	b->local_mr = ibv_reg_mr(b->client_pd, b->local, REGION_BYTES, IBV_ACCESS_LOCAL_WRITE);
	if (!b->local_mr) {
		failed("register memory");
		return -EIO;
	}
	/* No remote rights: where windows work over it, they are the only doors. */
	b->region_mr = ibv_reg_mr(b->server_pd, b->region, REGION_BYTES,
				  IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_MW_BIND);
	if (!b->region_mr)
		log_info("rdma: no region for memory windows: %s", strerror(errno));
	return 0;
}

static void check(int err, const char *what)
{
	if (err)
		log_err("rdma: self-test cannot %s: %s", what, strerror(err));
}

static void bench_fini(struct bench *b)
{
	if (b->region_mr)
		check(ibv_dereg_mr(b->region_mr), "deregister");
	if (b->local_mr)
		check(ibv_dereg_mr(b->local_mr), "deregister");
	if (b->client_pd)
		check(ibv_dealloc_pd(b->client_pd), "free a protection domain");
	if (b->other_pd)
		check(ibv_dealloc_pd(b->other_pd), "free a protection domain");
	if (b->server_pd)
		check(ibv_dealloc_pd(b->server_pd), "free a protection domain");
	if (b->region)
		munmap(b->region, 2 * REGION_BYTES);
}

static int bind_window(struct bench *b, struct maas_rdma_loop *loop, unsigned int access,
		       struct key *key)
{
	struct ibv_send_wr wr = {.opcode = IBV_WR_BIND_MW};
	int status;

	if (!b->region_mr)
		return -EOPNOTSUPP;
	key->mw = ibv_alloc_mw(b->server_pd, IBV_MW_TYPE_2);
	if (!key->mw)
		return -EIO;
	key->addr = (uintptr_t)b->region + GRANT_AT;
	key->rkey = ibv_inc_rkey(key->mw->rkey);
	wr.bind_mw.mw = key->mw;
	wr.bind_mw.rkey = key->rkey;
	wr.bind_mw.bind_info.mr = b->region_mr;
	wr.bind_mw.bind_info.addr = key->addr;
	wr.bind_mw.bind_info.length = GRANT_BYTES;
	wr.bind_mw.bind_info.mw_access_flags = access;
	status = maas_rdma_loop_run(loop, loop->server, &wr);
	return status > 0 ? -EIO : status;
}

/* With the rights that window.c and region.c give. */
static int grant(struct bench *b, struct maas_rdma_loop *loop, bool to_write, struct key *key)
{
	unsigned int access = IBV_ACCESS_REMOTE_READ;

	memset(key, 0, sizeof(*key));
	if (to_write)
		access |= IBV_ACCESS_REMOTE_WRITE;
	if (b->window)
		return bind_window(b, loop, access, key);
	if (to_write)
		access |= IBV_ACCESS_LOCAL_WRITE;
	key->addr = GRANT_AT;
	key->mr =
		ibv_reg_mr_iova(b->server_pd, b->region + GRANT_AT, GRANT_BYTES, key->addr, access);
	if (!key->mr)
		return -EIO;
	key->rkey = key->mr->rkey;
	return 0;
}

static int revoke(struct maas_rdma_loop *loop, struct key *key)
{
	struct ibv_send_wr wr = {.opcode = IBV_WR_LOCAL_INV, .invalidate_rkey = key->rkey};
	struct ibv_mr *mr = key->mr;
	int status;

	if (key->mw) {
		status = maas_rdma_loop_run(loop, loop->server, &wr);
		return status > 0 ? -EIO : status;
	}
	key->mr = NULL;
	return -ibv_dereg_mr(mr);
}

static void key_fini(struct key *key)
{
	if (key->mw)
		check(ibv_dealloc_mw(key->mw), "free a memory window");
	if (key->mr)
		check(ibv_dereg_mr(key->mr), "deregister");
}

static int access_once(struct bench *b, struct maas_rdma_loop *loop, const struct key *key,
		       enum ibv_wr_opcode opcode, int64_t offset, uint32_t len)
{
	struct ibv_sge sge = {(uintptr_t)b->local, len, b->local_mr->lkey};
	struct ibv_send_wr wr = {.opcode = opcode, .sg_list = &sge, .num_sge = 1};

	wr.wr.rdma.remote_addr = key->addr + (uint64_t)offset;
	wr.wr.rdma.rkey = key->rkey;
	return maas_rdma_loop_run(loop, loop->client, &wr);
}

static bool all_bytes(const uint8_t *bytes, size_t len, uint8_t value)
{
	return bytes[0] == value && memcmp(bytes, bytes + 1, len - 1) == 0;
}

enum trial { VALID, BOUNDS, FOREIGN, REVOKED, READABLE, READ_ONLY };

static bool is_allowed(enum trial trial)
{
	return trial == VALID || trial == READABLE;
}

static bool is_to_write(enum trial trial)
{
	return trial != READABLE && trial != READ_ONLY;
}

static int connect_pair(struct bench *b, bool other, struct maas_rdma_loop *loop)
{
	struct ibv_pd *pd = other && !b->window ? b->other_pd : b->server_pd;

	return maas_rdma_loop_init(b->device, pd, b->client_pd, loop);
}

/* True when the operation ended as the trial wants it to. */
static bool judge(struct bench *b, enum trial trial, enum ibv_wr_opcode opcode, int status)
{
	if (!is_allowed(trial))
		return status == IBV_WC_REM_ACCESS_ERR &&
		       all_bytes(b->region, REGION_BYTES, CANARY) &&
		       all_bytes(b->local, REGION_BYTES, POISON);
	if (status != IBV_WC_SUCCESS)
		return false;
	if (opcode == IBV_WR_RDMA_READ)
		return all_bytes(b->local, GRANT_BYTES, CANARY);
	return all_bytes(b->region + GRANT_AT, GRANT_BYTES, POISON) &&
	       all_bytes(b->region, GRANT_AT, CANARY) &&
	       all_bytes(b->region + GRANT_AT + GRANT_BYTES, REGION_BYTES - GRANT_AT - GRANT_BYTES,
			 CANARY);
}

static bool run_trial(struct bench *b, enum trial trial, enum ibv_wr_opcode opcode, int64_t offset,
		      uint32_t len)
{
	struct maas_rdma_loop own, other = {0};
	struct key key = {0};
	bool good = false;
	int status;

	memset(b->region, CANARY, REGION_BYTES);
	memset(b->local, POISON, REGION_BYTES);
	if (connect_pair(b, false, &own))
		return false;
	if (grant(b, &own, is_to_write(trial), &key))
		goto out;
	if (trial == FOREIGN && connect_pair(b, true, &other))
		goto out;
	if (trial == REVOKED && revoke(&own, &key))
		goto out;
	status = access_once(b, trial == FOREIGN ? &other : &own, &key, opcode, offset, len);
	good = judge(b, trial, opcode, status);
	log_debug("rdma: self-test keys=%s trial=%d opcode=%d offset=%lld status=%d good=%d",
		  b->window ? "window" : "mr", (int)trial, (int)opcode, (long long)offset, status,
		  good);
out:
	key_fini(&key);
	maas_rdma_loop_fini(&other);
	maas_rdma_loop_fini(&own);
	return good;
}

static bool both_ways(struct bench *b, enum trial trial, int64_t offset, uint32_t len)
{
	return run_trial(b, trial, IBV_WR_RDMA_WRITE, offset, len) &&
	       run_trial(b, trial, IBV_WR_RDMA_READ, offset, len);
}

static void try_mode(struct bench *b, bool window, struct maas_rdma_isolation *ret)
{
	memset(ret, 0, sizeof(*ret));
	b->window = window;
	ret->works = both_ways(b, VALID, 0, GRANT_BYTES);
	if (!ret->works)
		return;
	ret->bounds = both_ways(b, BOUNDS, -1, 1) && both_ways(b, BOUNDS, GRANT_BYTES, 1) &&
		      both_ways(b, BOUNDS, 0, GRANT_BYTES + 1);
	ret->foreign = both_ways(b, FOREIGN, 0, GRANT_BYTES);
	ret->revocation = both_ways(b, REVOKED, 0, GRANT_BYTES);
	ret->access = run_trial(b, READABLE, IBV_WR_RDMA_READ, 0, GRANT_BYTES) &&
		      run_trial(b, READ_ONLY, IBV_WR_RDMA_WRITE, 0, GRANT_BYTES);
}

int maas_rdma_selftest(struct maas_rdma_device *device, struct maas_rdma_selftest *ret_result)
{
	struct maas_rdma_selftest result;
	struct bench b;
	int err = bench_init(&b, device);

	if (!err) {
		try_mode(&b, true, &result.window);
		try_mode(&b, false, &result.mr);
		if (!result.window.works && !result.mr.works)
			err = -EIO;
	}
	bench_fini(&b);
	if (!err)
		*ret_result = result;
	return err;
}
