// SPDX-License-Identifier: Apache-2.0

// Package maasflag is what the prometheus command imports: the flags of remote memory (maasflag.go), one
// Prometheus that leads or follows (node.go), and a data directory's connection to remote memory (attach.go).
package maasflag

import (
	"fmt"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/alecthomas/units"

	"github.com/maas-memory/maas/prometheus/chunkstore"
)

const prefix = "storage.tsdb.maas."

// Config holds the values of the flags.
type Config struct {
	URL            string
	Fallback       bool
	Owner          string
	CacheSize      units.Base2Bytes
	Transport      string
	Restore        string
	HTTPConfigFile string
	ReadTimeout    time.Duration
	MaxPending     units.Base2Bytes
	MaxPendingAge  time.Duration
	Blocks         string // auto, off, or a size.
	Follow         bool
	FollowSettle   time.Duration // 0: a minute. No flag: for tests, which do not wait so long.
}

// Enabled says whether remote memory is used at all.
func (c *Config) Enabled() bool { return c.URL != "" }

// Follows says whether this Prometheus is one of a leader and its standbys; without a server, there are none.
func (c *Config) Follows() bool { return c.Enabled() && c.Follow }

// Add adds the flags to the prometheus command. flag makes a flag, as the application's Flag does.
func Add(flag func(name, help string) *kingpin.FlagClause) *Config {
	c := &Config{}
	flag(prefix+"url", "Memory server (MaaS) that keeps the head's chunks and the tail of its log, as http://host:3000. Empty: local storage alone.").
		StringVar(&c.URL)
	flag(prefix+"fallback", "Keep local chunk files, too, and go on with them whenever the memory server fails. Without fallback there are no local chunk files, and Prometheus ends when it can keep no more chunks.").
		Default("true").BoolVar(&c.Fallback)
	flag(prefix+"owner", "Name under which the memory is held; a Prometheus on another node with the same name takes it over. Default: made up, kept in the data directory.").
		StringVar(&c.Owner)
	flag(prefix+"cache-size", "Cache of blocks of remote memory.").
		Default("64MB").BytesVar(&c.CacheSize)
	flag(prefix+"transport", "How bytes travel: auto, http or rdma.").
		Default("auto").EnumVar(&c.Transport, "auto", "http", "rdma")
	flag(prefix+"restore", "On an empty data directory: auto brings back what the memory server holds of this owner; off begins anew.").
		Default("auto").EnumVar(&c.Restore, "auto", "off")
	flag(prefix+"http-config-file", "File with the token for the memory server, or the certificate, and the CA that it is known by, in the format of Prometheus' HTTP clients: authorization and tls_config. Over RDMA, files work, and texts in their place do not.").
		StringVar(&c.HTTPConfigFile)
	flag(prefix+"read-timeout", "Longest wait for the memory server in one read. 0: 200ms with fallback, 1s without.").
		Default("0s").DurationVar(&c.ReadTimeout)
	flag(prefix+"max-pending-size", "Without fallback: how many bytes of completed chunks wait for a memory server that is full, too slow for the log, or out of reach.").
		Default("256MB").BytesVar(&c.MaxPending)
	flag(prefix+"max-pending-age", "Without fallback: how long they wait, before Prometheus ends.").
		Default("10m").DurationVar(&c.MaxPendingAge)
	flag(prefix+"blocks", "How much of the memory server the newest blocks may take, so that a take-over brings them back: auto (a quarter of its pool), a size such as 8GB, or off, which leaves existing copies alone.").
		Default("auto").StringVar(&c.Blocks)
	flag(prefix+"follow", "Be a standby while another Prometheus holds the owner's name: follow its log, and take over within a second once the name is free. Give both the same arguments; a leader that loses the name ends.").
		BoolVar(&c.Follow)
	return c
}

// NormaliseArgs rewrites our boolean flags with a value into the forms that the parser knows: --FLAG=true becomes
// --FLAG, --FLAG=false becomes --no-FLAG. All else stays.
func NormaliseArgs(args []string) []string {
	out := make([]string, len(args))
	for i, arg := range args {
		out[i] = arg
		for _, name := range []string{prefix + "fallback", prefix + "follow"} {
			switch strings.ToLower(arg) {
			case "--" + name + "=true", "--" + name + "=1":
				out[i] = "--" + name
			case "--" + name + "=false", "--" + name + "=0":
				out[i] = "--no-" + name
			}
		}
	}
	return out
}

func (c *Config) check(snapshot bool) error {
	if c.CacheSize < chunkstore.MinCacheSize {
		return fmt.Errorf("--%scache-size is %s: it must be at least %s, because every chunk that is read passes through the cache", prefix, c.CacheSize, units.Base2Bytes(chunkstore.MinCacheSize))
	}
	if !c.Fallback && snapshot {
		return fmt.Errorf("--no-%sfallback does not work with --enable-feature=memory-snapshot-on-shutdown: a snapshot relies on chunks that only local files are sure to keep; leave out one of the two", prefix)
	}
	if c.Follow && (!c.Fallback || c.Owner == "" || c.Restore == "off") {
		return fmt.Errorf("--%sfollow needs --%sowner, and works neither with --no-%sfallback nor with --%srestore=off", prefix, prefix, prefix, prefix)
	}
	for name, is := range map[string]bool{"read-timeout": c.ReadTimeout < 0, "max-pending-age": c.MaxPendingAge < 0, "max-pending-size": c.MaxPending < 0} {
		if is {
			return fmt.Errorf("--%s%s is negative: give what to wait for at most, or leave it out", prefix, name)
		}
	}
	_, _, err := c.blocksSize()
	return err
}

// blocksSize is the size for blocks.Options; on is false where blocks are left alone.
func (c *Config) blocksSize() (size int64, on bool, err error) {
	switch c.Blocks {
	case "", "auto":
		return 0, true, nil
	case "off":
		return 0, false, nil
	}
	n, err := units.ParseBase2Bytes(c.Blocks)
	if err != nil || n < 0 {
		return 0, false, fmt.Errorf("--%sblocks=%s: give auto, off, or a size such as 8GB", prefix, c.Blocks)
	}
	if n == 0 {
		return -1, true, nil
	}
	return int64(n), true, nil
}
