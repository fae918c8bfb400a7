// SPDX-License-Identifier: Apache-2.0

// What a data directory remembers of its remote memory, in a file of its own.

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

// StateFile is the file in the data directory that names the owner of its remote memory.
const StateFile = "maas.json"

// State is what a data directory has to know while its server cannot be asked.
type State struct {
	Owner string `json:"owner"`

	// Epoch counts the starts that wrote to remote memory. If the server holds a higher epoch than the
	// directory, a successor wrote to it: this directory is a copy, or an old one.
	Epoch uint64 `json:"epoch"`

	// ChunkSegment is the highest number that a file of chunks in remote memory ever had. A number is not used
	// again; otherwise markers in an old WBL would name new chunks.
	ChunkSegment uint32 `json:"chunk_segment,omitempty"`

	// FirstChunkSegment is the lowest number of a file of chunks that is still needed. If that file is lost,
	// the later ones cannot be used: the log is read instead.
	FirstChunkSegment uint32 `json:"first_chunk_segment,omitempty"`

	// MinValidTime is where the head begins, in milliseconds; older samples went to blocks. The log still has
	// a part of them, which must not come back without the rest. Nil: nothing was truncated yet.
	MinValidTime *int64 `json:"min_valid_time,omitempty"`

	// Following says that the head in the directory is a standby's copy of what its leader wrote.
	Following bool `json:"following,omitempty"`

	// Session is the session of the process that held the directory last, and Place the place of the directory
	// then. Whoever knows a session's id can end the session, so only the owner may read the file.
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

// Save replaces the file: after a crash the old or the new state is there, never a torn one.
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

// WriteSynced writes a file so that it survives a crash.
func WriteSynced(path string, write func(*os.File) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := write(f); err != nil { // Nobody waits for the disk to have what is thrown away.
		return errors.Join(err, f.Close())
	}
	return errors.Join(f.Sync(), f.Close())
}

// SyncDir makes renames in a directory survive a crash.
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

// SetMinValidTime saves where the head begins, unless a later time is known.
func (m *Manager) SetMinValidTime(t int64) error {
	if t <= m.MinValidTime() {
		return nil
	}
	return m.UpdateState(func(s *State) { s.MinValidTime = &t })
}

// BeginHead saves that the directory gets another head, with other chunks, that begins at t; math.MinInt64 for an
// empty head.
func (m *Manager) BeginHead(t int64) error {
	return m.UpdateState(func(s *State) {
		s.FirstChunkSegment, s.MinValidTime = 0, nil
		if t != math.MinInt64 {
			s.MinValidTime = &t
		}
	})
}

// NewOwner makes up a name for a data directory without one.
func NewOwner() string {
	var b [8]byte
	rand.Read(b[:]) // Never fails.
	return "prometheus-" + hex.EncodeToString(b[:])
}
