// SPDX-License-Identifier: Apache-2.0

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

// place is a data directory as one process holds it. The state in it names the session of the process that held
// it last. Who holds the same place may end that session, and need not wait for its lease: the lock says that
// its process is dead, which had an open file in the directory, so that no other could have its number. A copy
// of the directory is another place, and so is the same disk at another host, or behind a reboot.
type place struct {
	name  string   // Empty: the directory cannot be locked, or is locked.
	taken bool     // It is locked.
	dir   *os.File // Open for as long as the place is held. The kernel closes it for who is killed.
}

// holdPlace locks a data directory, which it makes where there is none. Where that fails, nothing of the
// predecessor is known.
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

// InUse is an error where a process that lives, perhaps this one, holds the data directory.
func (m *Manager) InUse() error {
	if !m.place.taken {
		return nil
	}
	return fmt.Errorf("the data directory %s is in use by another process", m.o.Dir)
}

func (p *place) release() {
	if p.dir != nil {
		p.dir.Close() // A second time is no harm.
	}
}

// endPredecessor ends the session of the process that held this place before. What that sent last may still
// arrive: it is of the log that lies here, or of chunk files that nothing is appended to any more. The name is for a
// standby then, if there is one: it is ready sooner than this process, which has to replay the log.
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

// keepSession saves by what the next start here ends this session. Where that fails, it waits for the lease.
// It comes once the server's memory is known to be this directory's: before, nothing in the state may change.
func (m *Manager) keepSession(c *maas.Client) {
	if m.place.name == "" || m.State().Session == c.Session() {
		return
	}
	if err := m.UpdateState(func(s *State) { s.Session, s.Place = c.Session(), m.place.name }); err != nil {
		m.o.Logger.Debug("MaaS: the session is not saved", "err", err)
	}
}
