// SPDX-License-Identifier: Apache-2.0

// What the server tells about itself: health and figures.

package maas

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

const (
	serviceName    = "memory-as-a-service"
	maxStatsAnswer = 32 << 10 // it grows with the classes of slabs, of which there are 32 at most
)

// Health is the state and the identity of the server.
type Health struct {
	Status        string  `json:"status"`
	Service       string  `json:"service"`
	Version       string  `json:"version"`
	ArenaID       string  `json:"arena_id"`   // names the life of the bytes
	BootID        string  `json:"boot_id"`    // names the life of the process
	SlabSizes     []int64 `json:"slab_sizes"` // in bytes, ascending; none if the server does not tell
	Timestamp     int64   `json:"timestamp"`
	UptimeSeconds int64   `json:"uptime_seconds"`
	Memory        struct {
		MaxPoolSize    int64 `json:"max_pool_size"`
		BackedBytes    int64 `json:"backed_bytes"`    // backed by memory, lent or not
		AllocatedBytes int64 `json:"allocated_bytes"` // of the slabs lent
		InUseBytes     int64 `json:"in_use_bytes"`    // asked for
	} `json:"memory"`
	RDMA struct {
		State  string `json:"state"` // "off", "active" or "failed"
		Device string `json:"device"`
		GID    string `json:"gid"`
		Port   int    `json:"port"`
		Keys   string `json:"keys"` // "window", "mr" or "pool"
	} `json:"rdma"`
}

// Stats are the server's figures at one moment.
type Stats struct {
	TotalAllocations    int64       `json:"total_allocations"` // since the start
	ActiveAllocations   int64       `json:"active_allocations"`
	TotalAllocatedBytes int64       `json:"total_allocated_bytes"` // of the slabs lent
	TotalInUseBytes     int64       `json:"total_in_use_bytes"`    // asked for
	MaxPoolSize         int64       `json:"max_pool_size"`
	BackedBytes         int64       `json:"backed_bytes"`
	QuarantinedBytes    int64       `json:"quarantined_bytes"`
	UtilizationPercent  float64     `json:"utilization_percent"`
	Pools               []PoolStats `json:"pool_stats"`
	Sessions            struct {
		Active int64 `json:"active"`
		Lapsed int64 `json:"lapsed"`
	} `json:"sessions"`
	Owners     int64 `json:"owners"`
	RequestIDs int64 `json:"request_ids"`
	RDMA       *struct {
		Connections     int64 `json:"connections"`
		Grants          int64 `json:"grants"`
		RegisteredBytes int64 `json:"registered_bytes"`
	} `json:"rdma"` // nil without RDMA
}

// PoolStats are the figures of one slab class.
type PoolStats struct {
	SlabSize         int64 `json:"slab_size"`
	TotalSlabs       int64 `json:"total_slabs"`
	FreeSlabs        int64 `json:"free_slabs"`
	UsedSlabs        int64 `json:"used_slabs"`
	WaitingSlabs     int64 `json:"waiting_slabs"` // freed, and not yet zeroed
	QuarantinedSlabs int64 `json:"quarantined_slabs"`
	AllocatedBytes   int64 `json:"allocated_bytes"`
	RequestedBytes   int64 `json:"requested_bytes"`
}

// SlabSizes are the server's slab classes in bytes, ascending. An allocation takes the smallest
// class that holds it, so the last class is the largest allocation. None if the server does not
// tell. The classes are those of the process that the client was opened with. Do not change the
// slice.
func (c *Client) SlabSizes() []int64 { return c.slabSizes }

// Health asks the server for its health. If another process answers than the one that the session
// was opened with (another BootID), the answer is returned all the same, but the session is lost; over
// RDMA the library finds that out itself.
func (c *Client) Health(ctx context.Context) (Health, error) {
	ctx, done, err := c.begin(ctx, false)
	if err != nil {
		return Health{}, fmt.Errorf("maas: health: %w", err)
	}
	defer done()
	health, err := c.health(ctx)
	if err != nil {
		return Health{}, fmt.Errorf("maas: health: %w", err)
	}
	if s, ok := c.session.(*httpSession); ok && health.BootID != c.bootID {
		s.unknown(errors.New("the server was restarted"))
	}
	return health, nil
}

func (c *Client) health(ctx context.Context) (Health, error) {
	var health Health
	err := c.sender.do(ctx, &call{
		method: "GET", path: "/health", control: true, answer: &health, maxAnswer: maxSmallAnswer,
	})
	if err != nil {
		return Health{}, err
	}
	if health.Service == serviceName && health.ArenaID == "" { // What the server tells to anybody.
		return Health{}, fmt.Errorf("%s: %w: to this client the server says that it works, and nothing else; %s",
			c.sender.text, ErrToken, remedies["unauthenticated"])
	}
	if health.Service != serviceName || health.ArenaID == "" || health.BootID == "" {
		return Health{}, fmt.Errorf("%s: what answers there is not maasd; correct the URL", c.sender.text)
	}
	if sizes := health.SlabSizes; len(sizes) > 0 && (sizes[0] <= 0 || !slices.IsSorted(sizes)) {
		return Health{}, fmt.Errorf("%s: the server's answer has no sensible slab sizes; is it maasd?", c.sender.text)
	}
	return health, nil
}

// Stats asks the server for its figures.
func (c *Client) Stats(ctx context.Context) (Stats, error) {
	ctx, done, err := c.begin(ctx, false)
	if err != nil {
		return Stats{}, fmt.Errorf("maas: stats: %w", err)
	}
	defer done()
	var stats Stats
	err = c.sender.do(ctx, &call{
		method: "GET", path: "/stats", answer: &stats, maxAnswer: maxStatsAnswer,
	})
	if err != nil {
		return Stats{}, fmt.Errorf("maas: stats: %w", err)
	}
	return stats, nil
}
