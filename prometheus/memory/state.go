// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
)

// StateFile is the file in the data directory that ties it to its owner's memory.
const StateFile = "maas.json"

// State is what a data directory has to know when its server is not there to ask.
type State struct {
	Owner string `json:"owner"`

	// Epoch counts the starts that wrote to remote memory. A server that holds a higher one than
	// the directory knows has seen a successor: this directory is a copy, or an old one.
	Epoch uint64 `json:"epoch"`

	// ChunkSegment is the highest number that a chunk segment in remote memory ever had. Numbers
	// are not used again, or markers in an old WBL would name new chunks.
	ChunkSegment uint32 `json:"chunk_segment,omitempty"`

	// FirstChunkSegment is the lowest number of a chunk segment that is still needed. One that is not
	// there has been lost, and what follows cannot be used: the log is read instead.
	FirstChunkSegment uint32 `json:"first_chunk_segment,omitempty"`

	// MinValidTime is where the head begins, in milliseconds: what is older went to blocks. The log still
	// has a part of it, which must not come back without the rest. Nil: nothing was truncated yet.
	MinValidTime *int64 `json:"min_valid_time,omitempty"`

	// Following says that the head in the directory is a standby's copy of what its leader wrote.
	Following bool `json:"following,omitempty"`

	// Session is that of the process that held the directory last, and Place where the directory was
	// then. Who knows a session's id can end it: the file is its owner's alone.
	Session string `json:"session,omitempty"`
	Place   string `json:"place,omitempty"`
}

// LoadState reads the state of a data directory; there is none before the first start.
func LoadState(dir string) (State, error) {
	var s State
	b, err := os.ReadFile(filepath.Join(dir, StateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("%s: %w: remove the file to start with a new owner name, or write {\"owner\":\"NAME\",\"epoch\":0} into it", filepath.Join(dir, StateFile), err)
	}
	return s, nil
}

// Save writes the state so that it is there after a crash, old or new, but never torn.
func (s State) Save(dir string) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, StateFile+".tmp-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(append(b, '\n'))
	if err := errors.Join(err, f.Chmod(0o600), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), filepath.Join(dir, StateFile)); err != nil {
		return err
	}
	return SyncDir(dir)
}

// SyncDir makes what was renamed in a directory last through a crash.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// MinValidTime is where the head begins; math.MinInt64 while nothing was truncated.
func (m *Manager) MinValidTime() int64 {
	if t := m.State().MinValidTime; t != nil {
		return *t
	}
	return math.MinInt64
}

// SetMinValidTime saves where the head begins, unless it is known to begin later.
func (m *Manager) SetMinValidTime(t int64) error {
	if t <= m.MinValidTime() {
		return nil
	}
	return m.UpdateState(func(s *State) { s.MinValidTime = &t })
}

// BeginHead saves that the directory gets another head, with other chunks, and where that begins;
// math.MinInt64 for one that begins anew.
func (m *Manager) BeginHead(t int64) error {
	return m.UpdateState(func(s *State) {
		s.FirstChunkSegment, s.MinValidTime = 0, nil
		if t != math.MinInt64 {
			s.MinValidTime = &t
		}
	})
}

// NewOwner makes up a name for a data directory that was given none.
func NewOwner() string {
	var b [8]byte
	rand.Read(b[:]) // Never fails.
	return "prometheus-" + hex.EncodeToString(b[:])
}
