// SPDX-License-Identifier: Apache-2.0

// Verifying: what is freed by hand is missed by whoever reads it. Most of the log is read by nobody before a take-over,
// so the server is asked from time to time whether it still has all of it.

package memory

import (
	"context"
	"fmt"
	"time"

	"github.com/maas-memory/maas/prometheus/remotefile"
)

// defaultVerify is the pause between two looks at all that the server holds of the owner.
const defaultVerify = 10 * time.Minute

// RelyOn names files that the server must not lose: as many bytes of each as it has acknowledged. Any goroutine may call
// files, until Close. If one is missing, or is shorter, everything is looked up anew (see Arena).
func (m *Manager) RelyOn(files func() []*remotefile.File) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reliedOn = append(m.reliedOn, files)
}

// relied are the files of RelyOn, and how long each is.
func (m *Manager) relied() map[*remotefile.File]int64 {
	m.mu.Lock()
	sources := m.reliedOn
	m.mu.Unlock()
	lengths := map[*remotefile.File]int64{}
	for _, files := range sources {
		for _, f := range files() {
			lengths[f] = f.Len()
		}
	}
	return lengths
}

// verifyAgain verifies until ctx ends.
func (m *Manager) verifyAgain(ctx context.Context) {
	for sleep(ctx, m.o.Verify) {
		m.verify(ctx)
	}
}

// verify looks whether the server has all that is relied on. What is missing is looked for twice: a file may be cut at
// the server a moment before it is here.
func (m *Manager) verify(ctx context.Context) {
	missing := m.missing(ctx, m.relied())
	if len(missing) == 0 || !sleep(ctx, retryInterval) {
		return
	}
	for f := range m.missing(ctx, missing) {
		m.reload.Store(true)
		m.trip(fmt.Errorf("the server has lost memory that it lent, of %s", f.Name()))
		return
	}
}

// missing returns those files of which the server has fewer bytes than it should. Meanwhile, files may grow, be cut or be
// freed.
func (m *Manager) missing(ctx context.Context, should map[*remotefile.File]int64) map[*remotefile.File]int64 {
	if len(should) == 0 {
		return nil
	}
	arena := m.Arena()
	l, err := m.List(ctx)
	if err != nil { // The server failed, or something was freed under the look.
		return nil
	}
	have := map[remotefile.Name]int64{}
	for _, f := range l.Files {
		have[f.Name()] = f.Len()
	}
	still := m.relied()
	missing := map[*remotefile.File]int64{}
	for f, length := range should {
		if still[f] >= length && have[f.Name()] < length && m.Arena() == arena {
			missing[f] = length
		}
	}
	return missing
}
