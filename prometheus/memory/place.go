// SPDX-License-Identifier: Apache-2.0

// The lock on a data directory, by which a start can end the session of a dead predecessor.

package memory

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	maas "github.com/maas-memory/maas/go"
)

// place is a data directory that this process has locked. The state in the directory names the session of the
// process that locked it last. Whoever locks the same place may end that session, and need not wait for its lease:
// the lock proves that the earlier process is dead. The place includes the directory's inode, which no other
// directory can have had while that process held it open. A copy of the directory is another place; so is the same
// disk at another host, or after a reboot.
type place struct {
	name  string   // Empty: the directory cannot be locked, or is locked.
	taken bool     // It is locked.
	dir   *os.File // Open for as long as the place is held; the kernel closes it when the process is killed.
}

// holdPlace locks a data directory, which it makes if there is none. If that fails, nothing is known of the
// predecessor.
func holdPlace(dir string) place {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return place{}
	}
	d, err := os.Open(dir)
	if err != nil {
		return place{}
	}
	name, err := placeName(d)
	if err == nil {
		err = unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		d.Close()
		return place{taken: errors.Is(err, unix.EWOULDBLOCK)}
	}
	return place{name: name, dir: d}
}

func placeName(dir *os.File) (string, error) {
	info, err := dir.Stat()
	if err != nil {
		return "", err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", fmt.Errorf("%s has no number", dir.Name())
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d:%d:%s", stat.Dev, stat.Ino, strings.TrimSpace(string(boot))), nil
}

// InUse is an error if a live process, perhaps this one, holds the data directory.
func (m *Manager) InUse() error {
	if !m.place.taken {
		return nil
	}
	return fmt.Errorf("the data directory %s is in use by another process", m.o.Dir)
}

func (p *place) release() {
	if p.dir != nil {
		p.dir.Close() // Closing twice does no harm.
	}
}

// endPredecessor ends the session of the process that held this place before. What that process sent last may
// still arrive; it belongs to the log in this directory, or to chunk files that nothing is appended to any more.
// If there is a standby, the name is left to it: it is ready sooner than this process, which has to replay the
// log.
func (m *Manager) endPredecessor(ctx context.Context) {
	s := m.State()
	if m.place.name == "" || s.Place != m.place.name || s.Session == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if err := maas.EndSession(ctx, m.o.client(), s.Session); err != nil {
		m.o.Logger.Debug("MaaS: the predecessor's session ends by its lease", "err", err)
		return
	}
	if m.o.Follow {
		sleep(ctx, standbyTime)
	}
}

// keepSession saves the session's id, by which the next start on this directory ends the session. If that fails,
// the next start waits for the lease. It is called once the server's memory is known to be this directory's:
// before that, nothing in the state may change.
func (m *Manager) keepSession(c *maas.Client) {
	if m.place.name == "" || m.State().Session == c.Session() {
		return
	}
	if err := m.UpdateState(func(s *State) { s.Session, s.Place = c.Session(), m.place.name }); err != nil {
		m.o.Logger.Debug("MaaS: the session is not saved", "err", err)
	}
}
