// SPDX-License-Identifier: Apache-2.0

// Whose an owner's memory is: predecessors, copies of a directory, and strangers.

package memory

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/remotefile"
	"github.com/maas-memory/maas/prometheus/test/shared"
)

// logged gives a directory a log; in mirror mode, such a directory waits for nobody.
func logged(t *testing.T, dir string) string {
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "wal"), 0o777))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "wal", "00000000"), []byte("log"), 0o666))
	return dir
}

func isForked(context.Context, remotefile.Memory, *remotefile.Listing, bool) (Relation, error) {
	return Forked, nil
}

// A killed process leaves its session, and no lock.
func TestPlace__the_next_start_ends_a_dead_predecessor_s_session(t *testing.T) {
	server := maastest.Start(t)
	for _, required := range []bool{true, false} {
		o := Options{URL: server.URL, Owner: "me", Dir: logged(t, t.TempDir()), Required: required}
		first := opened(t, o)
		first.place.release() // It goes on to renew its session: only its end makes the name free.
		second, log := openedLogged(t, o)
		require.True(t, second.Up())
		require.Zero(t, log.Count("name is taken"))
		require.NoError(t, second.Close())
		require.NoError(t, first.Close())
	}
}

// A copy also names the original's session and place; the original lives.
func TestPlace__a_living_session_is_not_ended(t *testing.T) {
	dir := logged(t, t.TempDir())
	first := opened(t, Options{URL: maastest.Start(t).URL, Owner: "me", Dir: dir})
	copied := t.TempDir()
	require.NoError(t, os.CopyFS(copied, os.DirFS(dir)))
	isNotEnded := func(dir, what string) {
		state := maastest.Must(LoadState(dir))(t)
		require.Equal(t, first.client.Load().Session(), state.Session, what)
		second := &Manager{o: first.o, state: state, place: holdPlace(dir)}
		defer second.place.release()
		second.endPredecessor(context.Background())
		require.NoError(t, allocate(first, 1000), what)
		require.ErrorIs(t, maastest.Err(maas.Open(context.Background(), first.o.client())), maas.ErrNameTaken, what)
	}
	isNotEnded(dir, "the same directory")
	isNotEnded(copied, "a copy")
	require.NoError(t, os.Rename(dir, dir+".away"))
	require.NoError(t, os.Rename(copied, dir))
	isNotEnded(dir, "a copy that was moved to the original's name")
	isNotEnded(dir+".away", "the original, moved away")
	require.NoError(t, os.Rename(dir+".away", copied))
}

func TestState__is_its_owner_s_alone(t *testing.T) {
	old := unix.Umask(0)
	defer unix.Umask(old)
	dir := t.TempDir()
	path := filepath.Join(dir, StateFile)
	require.NoError(t, os.WriteFile(path, []byte(`{"owner":"me"}`), 0o666))
	require.NoError(t, State{Owner: "me", Session: "secret"}.Save(dir))
	require.Equal(t, os.FileMode(0o600), maastest.Must(os.Stat(path))(t).Mode().Perm())
}

// A start that the server refuses does not change what a directory belongs to.
func TestPlace__a_refused_start_leaves_the_state(t *testing.T) {
	server := maastest.Start(t)
	dir := logged(t, t.TempDir())
	m := opened(t, Options{URL: server.URL, Owner: "me", Dir: dir})
	require.NoError(t, m.Close())
	before := maastest.Must(LoadState(dir))(t)
	_, _, err := openLogged(t, Options{URL: server.URL, Owner: "other", Dir: dir, Required: true, Compare: isForked})
	require.ErrorIs(t, err, ErrForked)
	require.Equal(t, before, maastest.Must(LoadState(dir))(t))
}

// A comparison reads everything that the server holds, and a fork does not mend itself.
func TestPlace__a_fork_is_compared_again_when_the_server_holds_something_else(t *testing.T) {
	server := maastest.Start(t)
	dir := logged(t, t.TempDir())
	m := opened(t, Options{URL: server.URL, Owner: "me", Dir: dir})
	require.NoError(t, allocate(m, 1000))
	require.NoError(t, m.Close())
	compared, found := 0, Forked
	m = watched(t, Options{URL: server.URL, Owner: "me", Dir: dir,
		Compare: func(context.Context, remotefile.Memory, *remotefile.Listing, bool) (Relation, error) {
			compared++
			return found, nil
		}})
	for range 3 {
		require.ErrorIs(t, m.connect(context.Background()), ErrForked)
	}
	require.Equal(t, 1, compared)
	successor := opened(t, Options{URL: server.URL, Owner: "me"}) // The name is free.
	require.True(t, successor.Up())
	require.NoError(t, successor.Close())
	found = HasAll
	_, _, err := shared.Client(t, server.URL).Free(context.Background(), held(t, server.URL, "me")[0].ID)
	require.NoError(t, err)
	require.NoError(t, m.connect(context.Background()))
	require.Equal(t, 2, compared)
}

func tokenOf(name string) func() (string, error) {
	return func() (string, error) { return "mt_" + name, nil }
}

// principals writes the file of these principals, each of which owns its own name.
func principals(t *testing.T, file string, names ...string) {
	var lines []byte
	for _, name := range names {
		lines = fmt.Appendf(lines, "%s token=sha256:%x owner=%s\n", name, sha256.Sum256([]byte("mt_"+name)), name)
	}
	require.NoError(t, os.WriteFile(file, lines, 0o600))
}

// startWith starts a server of these principals.
func startWith(t *testing.T, file string, names ...string) *maastest.Server {
	principals(t, file, names...)
	return maastest.Start(t, "--auth-file", file)
}

// fence does what takes an owner's memory from its Prometheus: a file of the owner's with a later epoch, and the
// session of the owner's name. It returns what the server says to either.
func fence(t *testing.T, url string, token func() (string, error)) (file, session error) {
	stranger, err := maas.Open(context.Background(), maas.Options{URL: url, Transport: "http", Token: token})
	require.NoError(t, err)
	defer stranger.Close()
	f := remotefile.New("me", 1<<40, remotefile.Name{Kind: remotefile.WAL, Number: 7}, false)
	file = f.Append(context.Background(), stranger, []byte("forged"))
	squatter, session := maas.Open(context.Background(),
		maas.Options{URL: url, Transport: "http", Token: token, Name: "me", Exclusive: true})
	if session == nil {
		squatter.Close()
	}
	return file, session
}

// breakShortly breaks the connection to the server for as long as it takes to be noticed.
func breakShortly(m *Manager, server *maastest.Server) {
	server.Pause()
	_ = m.Read("any", 50*time.Millisecond, func(ctx context.Context, c *Conn) error { _, err := c.Health(ctx); return err })
	server.Resume()
}

func TestStranger__fences_an_owner_where_everybody_may(t *testing.T) {
	server := maastest.Start(t)
	m := open(t, server.URL)
	require.NoError(t, health(m))
	file, session := fence(t, server.URL, nil)
	require.NoError(t, file)
	require.ErrorIs(t, session, maas.ErrNameTaken)
	breakShortly(m, server)
	maastest.Eventually(t, "it is fenced", m.Fenced)
}

func TestStranger__is_refused_where_there_are_principals(t *testing.T) {
	server := startWith(t, filepath.Join(t.TempDir(), "principals"), "me", "stranger")
	m := opened(t, Options{URL: server.URL, Owner: "me", Proof: maas.Options{Token: tokenOf("me")}})
	require.NoError(t, health(m))
	file, session := fence(t, server.URL, tokenOf("stranger"))
	require.ErrorContains(t, file, "may not allocate for the owner me")
	require.ErrorContains(t, session, "forbidden")
	breakShortly(m, server)
	maastest.Eventually(t, "the server is in use", func() bool { return health(m) == nil })
	require.False(t, m.Fenced())

	// Nor may it while the name is free.
	require.NoError(t, m.Close())
	_, session = fence(t, server.URL, tokenOf("stranger"))
	require.ErrorContains(t, session, "forbidden")
}

// A hand-over waits until the block that was on its way is thrown away.
func TestWriteSynced__does_not_sync_what_could_not_be_written(t *testing.T) {
	synced := maastest.Must(os.OpenFile(os.DevNull, os.O_WRONLY, 0))(t)
	require.ErrorIs(t, synced.Sync(), unix.EINVAL, "else this shows nothing")
	require.NoError(t, synced.Close())
	err := WriteSynced(os.DevNull, func(*os.File) error { return os.ErrDeadlineExceeded })
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NotErrorIs(t, err, unix.EINVAL)
}
