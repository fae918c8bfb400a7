// SPDX-License-Identifier: Apache-2.0

// Following, taking the lead, knowing whether this process leads, and the session by which others see a standby.

package memory

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/remotefile"
	"github.com/maas-memory/maas/prometheus/test/shared"
)

// nodes are two nodes of one owner: a leader and a standby.
func nodes(t *testing.T, url string) (leader, standby *Manager) {
	url = shared.Old(t, url)
	leader = opened(t, Options{URL: url, Owner: "me", Follow: true})
	require.False(t, leader.Following())
	return leader, standbyOf(t, url, "me")
}

func get(t *testing.T, url string) []byte {
	response := maastest.Must(http.Get(url))(t)
	defer http.DefaultClient.CloseIdleConnections()
	defer response.Body.Close()
	require.Equal(t, http.StatusOK, response.StatusCode)
	return maastest.Must(io.ReadAll(response.Body))(t)
}

// sessions says of each session of a name, at the server, whether it is exclusive.
func sessions(t *testing.T, url, name string) (exclusive []bool) {
	var answer struct {
		Sessions []struct {
			Exclusive bool `json:"exclusive"`
		} `json:"sessions"`
	}
	require.NoError(t, json.Unmarshal(get(t, url+"/sessions?name="+name), &answer))
	for _, s := range answer.Sessions {
		exclusive = append(exclusive, s.Exclusive)
	}
	return exclusive
}

// standbyOf is a standby of a leader whose name the server still holds.
func standbyOf(t *testing.T, url, owner string) *Manager {
	m := opened(t, Options{URL: url, Owner: owner, Follow: true})
	require.True(t, m.Following())
	return m
}

func look(t *testing.T, m *Manager) {
	mem := maastest.Must(m.Look(context.Background()))(t)
	require.NoError(t, maastest.Err(mem.List(context.Background(), m.Owner())))
}

// leaderOf is a client that has the name of an owner.
func leaderOf(t *testing.T, url, owner string) *maas.Client {
	o := Options{URL: url, Owner: owner, Transport: maastest.Transport()}
	c := maastest.Must(maas.Open(context.Background(), o.client()))(t)
	t.Cleanup(func() { c.Close() })
	return c
}

// refused is how many sessions the server has refused because of their name.
func refused(t *testing.T, url string) string {
	_, count, _ := strings.Cut(string(get(t, url+"/metrics")), `maas_http_requests_total{method="POST",route="/sessions",code="409"} `)
	count, _, _ = strings.Cut(count, "\n")
	return count
}

func TestFollow__who_becomes_a_standby(t *testing.T) {
	server, dead := maastest.Start(t), maastest.Start(t)
	old := shared.Old(t, server.URL)
	dead.Kill()
	leader := opened(t, Options{URL: old, Owner: "led", Follow: true})
	require.False(t, leader.Following(), "the name was free")
	for name, c := range map[string]struct {
		options Options
		follows bool
	}{
		"the name is taken":                            {Options{URL: old, Owner: "led"}, true},
		"the name is taken, and there is a log":        {Options{URL: old, Owner: "led", Dir: logged(t, t.TempDir())}, true},
		"the log is another one":                       {Options{URL: old, Owner: "free", Dir: logged(t, t.TempDir()), Compare: isForked}, true},
		"the name is free":                             {Options{URL: old, Owner: "another"}, false},
		"it has never led, and nobody can be asked":    {Options{URL: dead.URL, Owner: "led"}, true},
		"it has a log of its own, and nobody is there": {Options{URL: dead.URL, Owner: "led", Dir: logged(t, t.TempDir())}, false},
	} {
		c.options.Follow = true
		m, _, err := openLogged(t, c.options)
		require.NoError(t, err, name)
		require.Equal(t, c.follows, m.Following(), name)
		require.NoError(t, m.Close(), name)
	}
}

func TestFollow__leads_once_the_name_is_free(t *testing.T) {
	t.Parallel()
	server := shared.Old(t, maastest.Start(t).URL)
	lost := make(chan error, 1)
	leader := opened(t, Options{URL: server, Owner: "me", Follow: true, Lost: func(err error) { lost <- err }})
	file := remotefile.New("me", leader.Arena().Epoch, remotefile.Name{Kind: remotefile.WAL}, false)
	require.NoError(t, leader.Write("append", 1, func(ctx context.Context, c *Conn) error { return file.Append(ctx, c, []byte{1}) }))
	dir := t.TempDir()
	m := opened(t, Options{URL: server, Owner: "me", Follow: true, Dir: dir})
	require.NoError(t, m.BeginFollowing())
	require.True(t, maastest.Must(LoadState(dir))(t).Following)

	require.True(t, IsFollowed(m.Lead(context.Background())))
	require.False(t, m.Up())
	require.ErrorIs(t, allocate(m, 1000), ErrDegraded, "it writes nothing")
	mem := maastest.Must(m.Look(context.Background()))(t)
	require.Len(t, maastest.Must(mem.List(context.Background(), "me"))(t), 1)

	// The lease lapses.
	require.NoError(t, maas.EndSession(context.Background(), m.o.client(), leader.State().Session))
	maastest.Eventually(t, "the name is free", func() bool { return m.Lead(context.Background()) == nil })
	require.True(t, m.Up())
	require.False(t, m.Following())
	require.True(t, m.Holds())
	require.Equal(t, leader.Arena().Epoch+1, m.Arena().Epoch)
	require.NoError(t, allocate(m, 1000))
	require.Equal(t, 1.0, testutil.ToFloat64(m.Metrics().Promotions))
	require.Zero(t, m.Metrics().Behind())
	require.NoError(t, m.EndFollowing())
	state := maastest.Must(LoadState(dir))(t)
	require.False(t, state.Following)
	require.Equal(t, m.Arena().Epoch, state.Epoch)

	leader.trip(maas.ErrSessionLost)
	maastest.Eventually(t, "it knows", func() bool { return !leader.Holds() })
	require.False(t, leader.SurelyLeads(), "its lease would run")
	require.ErrorIs(t, maastest.Receive(t, "the old leader ends", lost), ErrLost)
}

// A restarted server knows no session, and the leader comes back for its name.
func TestFollow__leaves_the_name_to_the_leader_after_a_restart_of_the_server(t *testing.T) {
	t.Parallel()
	server := maastest.Start(t)
	leader := opened(t, Options{URL: shared.Old(t, server.URL), Owner: "me", Follow: true, Lost: func(err error) { t.Error(err) }})
	young := shared.Young(t, server.URL)
	m := opened(t, Options{URL: young, Owner: "me", Follow: true})
	late := opened(t, Options{URL: young, Owner: "me", Follow: true})
	require.True(t, IsFollowed(m.Lead(context.Background())))
	server.Restart()
	arena := leader.Arena()
	require.True(t, IsFollowed(late.Lead(context.Background())), "it has not asked this server, nor the one before")
	for leader.Arena() == arena || !leader.Up() {
		require.True(t, IsFollowed(m.Lead(context.Background())))
		time.Sleep(20 * time.Millisecond)
	}
	require.True(t, IsFollowed(m.Lead(context.Background())), "it sees the leader")
	require.True(t, m.Following())
	require.NoError(t, late.Close())
	require.NoError(t, leader.Close())
	maastest.Eventually(t, "the name is free", func() bool { return m.Lead(context.Background()) == nil })
}

// The server is restarted after it has said that the name is free: then it does not know who had the name.
func TestFollow__leaves_a_name_that_was_free_at_another_start_of_the_server(t *testing.T) {
	server := maastest.Start(t)
	leader, m := nodes(t, server.URL)
	require.True(t, IsFollowed(m.Lead(context.Background())))
	m.freeAt = m.heldAt
	require.NoError(t, leader.Close())
	server.Restart()
	m.empty, m.opening = true, true
	require.ErrorIs(t, m.connect(context.Background()), errMayLive)
	require.False(t, m.Holds())
	other := opened(t, Options{URL: m.o.URL, Owner: "me", Follow: true})
	require.False(t, other.Following(), "the name is free")
	require.NoError(t, other.Close())
	require.NoError(t, m.Close())
}

func TestFollow__who_began_alone_ends_when_another_leads(t *testing.T) {
	server := maastest.Start(t)
	server.Kill()
	m := watched(t, Options{URL: shared.Young(t, server.URL), Owner: "me", Dir: logged(t, t.TempDir()), Follow: true})
	require.False(t, m.Following())
	server.Restart()
	require.ErrorIs(t, m.connect(context.Background()), errMayLive, "the leader comes back first")
	other := opened(t, Options{URL: shared.Old(t, server.URL), Owner: "me", Follow: true})
	require.False(t, other.Following())
	err := m.connect(context.Background())
	require.ErrorIs(t, err, maas.ErrNameTaken)
	for range 3 {
		require.False(t, m.lostName(context.Background(), err), "perhaps by its own predecessor, which died")
	}
	m.takenSince = m.takenSince.Add(-SessionTTL)
	require.True(t, m.lostName(context.Background(), err))
	m.o.Follow = false
	require.False(t, m.lostName(context.Background(), err))
	require.NoError(t, other.Close())
}

// A session whose connection broke keeps the name at the server for the rest of its lease: that is not another
// leader.
func TestFollow__a_leader_does_not_lose_its_name_to_its_own_session(t *testing.T) {
	m := watched(t, Options{URL: shared.Old(t, maastest.Start(t).URL), Owner: "me", Follow: true})
	defer func() { require.NoError(t, m.closeClient()) }()
	taken := fmt.Errorf("open: %w", maas.ErrNameTaken)
	require.False(t, m.lostName(context.Background(), taken), "it looks twice")
	require.False(t, m.lostName(context.Background(), taken), "it is its own")
	m.opened = time.Now().Add(-time.Minute)
	require.True(t, m.lostName(context.Background(), taken), "another's is younger")
}

func TestFollow__a_leader_that_is_started_again_at_once_leaves_the_name_to_its_standby(t *testing.T) {
	server := shared.Old(t, maastest.Start(t).URL)
	o := Options{URL: server, Owner: "me", Dir: logged(t, t.TempDir()), Follow: true, Lost: func(error) {}}
	first := opened(t, o)
	first.place.release() // As if it had been killed.
	defer func() { require.NoError(t, first.Close()) }()

	taken := make(chan *maas.Client)
	go func() {
		for {
			time.Sleep(standbyTime / 4)
			if c, err := maas.Open(context.Background(), first.o.client()); err == nil {
				taken <- c
				return
			}
		}
	}()
	second := opened(t, o)
	require.True(t, second.Following())
	require.NoError(t, (<-taken).Close())
}

func TestFollow__a_leader_without_a_standby_leads_again(t *testing.T) {
	server := shared.Old(t, maastest.Start(t).URL)
	o := Options{URL: server, Owner: "me", Dir: logged(t, t.TempDir()), Follow: true, Lost: func(error) {}}
	first := opened(t, o)
	first.place.release()
	second := opened(t, o)
	require.False(t, second.Following())
	require.True(t, second.Up())
	require.NoError(t, second.Close())
	require.NoError(t, first.Close())
}

// A restarted server knows no earlier session, and may have lost the memory that would show that there was a
// leader.
func TestLead__leaves_the_leader_time_to_come_back_to_a_restarted_server(t *testing.T) {
	server := maastest.Start(t)
	leader := opened(t, Options{URL: shared.Old(t, server.URL), Owner: "me", Follow: true})
	standby := standbyOf(t, shared.Young(t, server.URL), "me")
	require.True(t, IsFollowed(standby.Lead(context.Background())))
	require.NoError(t, leader.Close())
	server.Restart()
	maastest.Eventually(t, "the server is there", func() bool {
		err := standby.Lead(context.Background())
		standby.LookAnew()
		require.Error(t, err, "it does not take the name")
		return IsFollowed(err)
	})
	require.True(t, standby.Following())
}

// A standby that has followed a log with a hole does not lead with it: it has to catch up first.
func TestLead__waits_until_a_standby_that_must_follow_has_caught_up(t *testing.T) {
	standby := opened(t, Options{URL: maastest.Start(t).URL, Owner: "me", Follow: true, MustFollow: true})
	require.True(t, standby.Following())
	require.True(t, IsFollowed(standby.Lead(context.Background())))
	standby.Metrics().Replayed(time.Now())
	maastest.Eventually(t, "it leads", func() bool { return standby.Lead(context.Background()) == nil })
}

// leads is Leads for a caller with little time.
func leads(m *Manager) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 3*leadInterval)
	defer cancel()
	return m.Leads(ctx)
}

func TestLeads__is_not_known_between_the_end_of_a_lease_and_the_server_s_answer(t *testing.T) {
	server := shared.Old(t, maastest.Start(t).URL)
	m := watched(t, Options{URL: server, Owner: "me", Follow: true})
	defer func() { require.NoError(t, m.closeClient()) }()
	require.True(t, leads(m), "its lease runs")
	m.trip(&maas.Error{Status: http.StatusForbidden, Code: "forbidden"})
	require.True(t, m.SurelyLeads(), "one request was refused, and the session lives")

	m.lapsedSession(m.client.Load())
	require.NoError(t, m.closeClient())
	require.True(t, leads(m), "it would run")

	m.leaseEnd = time.Now()
	require.False(t, leads(m))
	m.heard(m.leaseEnd.Add(-time.Second), io.EOF)
	require.False(t, leads(m), "the server was asked before")
	m.heard(time.Now(), io.EOF)
	require.True(t, leads(m), "it is out of reach")

	m.leaseEnd = time.Now()
	require.NoError(t, m.connect(context.Background()))
	require.True(t, leads(m), "the name is its own again")
}

func TestLeads__who_never_had_a_lease_waits_for_nothing(t *testing.T) {
	m := watched(t, Options{URL: "http://127.0.0.1:1", Owner: "me"})
	require.True(t, leads(m))
	m.o.Follow = true
	require.True(t, leads(m))
}

// cutOff is a leader whose lease has ended, and which has not asked the server since.
func cutOff(t *testing.T, server *maastest.Server) *Manager {
	m := watched(t, Options{URL: shared.Old(t, server.URL), Owner: "me", Follow: true})
	m.lapsedSession(m.client.Load())
	require.NoError(t, m.closeClient())
	m.leaseEnd = time.Now()
	m.trip(maas.ErrSessionLost)
	return m
}

// The server was out of reach for longer than the lease, so another may lead.
func TestLeads__not_who_hears_that_the_name_is_taken(t *testing.T) {
	server := maastest.Start(t)
	m := cutOff(t, server)
	m.heard(time.Now(), m.reason())
	require.True(t, m.SurelyLeads(), "it is out of reach")
	other := leaderOf(t, server.URL, "me")
	m.tryAgain(context.Background())
	require.False(t, m.SurelyLeads())
	require.NoError(t, other.Close())
	m.tryAgain(context.Background())
	require.True(t, m.SurelyLeads())
	require.NoError(t, m.closeClient())
}

// The path to the server loses every other answer.
func TestLeads__not_when_another_had_the_name_before_the_server_went(t *testing.T) {
	server := maastest.Start(t)
	m := cutOff(t, server)
	leaderOf(t, server.URL, "me")
	m.tryAgain(context.Background())
	server.Kill()
	m.tryAgain(context.Background())
	require.False(t, m.SurelyLeads())
	require.NotZero(t, m.takenSince, "the next such answer is the second one")
	m.takenSince = time.Now().Add(-SessionTTL - time.Second)
	m.tryAgain(context.Background())
	require.True(t, m.SurelyLeads(), "it is out of reach for longer than a lease")
}

// A standby leads a moment after the server has ended the session of who is turned away.
func TestLeads__not_whom_the_server_turns_away(t *testing.T) {
	file := filepath.Join(t.TempDir(), "principals")
	server := startWith(t, file, "me")
	m := watched(t, Options{URL: shared.Old(t, server.URL), Owner: "me", Follow: true, Proof: maas.Options{Token: tokenOf("me")}})
	require.True(t, m.SurelyLeads())
	principals(t, file, "another")
	server.Restart()
	require.ErrorIs(t, health(m), maas.ErrToken)
	require.False(t, m.Up(), "nothing else can succeed")
	require.False(t, m.SurelyLeads(), "its lease would run")
	require.True(t, m.Leads(t.Context()), "nobody else may send its alerts")

	_ = m.closeClient() // As when its lease has ended.
	m.leaseEnd = time.Now()
	m.tryAgain(context.Background())
	require.ErrorIs(t, m.reason(), maas.ErrToken)
	require.False(t, m.SurelyLeads(), "it was asked")
	server.Kill()
	m.tryAgain(context.Background())
	require.True(t, m.SurelyLeads(), "it is out of reach")
	principals(t, file, "me")
	server.Restart()
	m.tryAgain(context.Background())
	require.True(t, m.Up())
	require.NoError(t, m.closeClient())
}

func TestLeads__a_proxy_without_its_server_is_out_of_reach(t *testing.T) {
	server := maastest.Start(t)
	m := watched(t, Options{URL: shared.Old(t, server.URL), Owner: "me", Follow: true})
	server.Kill()
	_ = m.closeClient()
	m.leaseEnd = time.Now()
	m.tryAgain(context.Background())
	require.ErrorContains(t, m.reason(), "502")
	require.True(t, m.SurelyLeads())
}

func TestFollow__a_standby_is_seen_until_it_leads(t *testing.T) {
	server := maastest.Start(t)
	first := leaderOf(t, server.URL, "me")
	one, two := standbyOf(t, server.URL, "me"), standbyOf(t, server.URL, "me")
	look(t, one)
	look(t, one) // The same session.
	look(t, two)
	require.Equal(t, []bool{false, false}, sessions(t, server.URL, "me@follow"))
	require.NoError(t, two.Close())
	require.Equal(t, []bool{false}, sessions(t, server.URL, "me@follow"))

	require.Error(t, one.Lead(context.Background()))
	require.NoError(t, first.Close())
	require.NoError(t, one.Lead(context.Background()))
	require.Empty(t, sessions(t, server.URL, "me@follow"))
	require.Equal(t, []bool{true}, sessions(t, server.URL, "me"))
}

// It compares its log for minutes, during which an operator would count a standby.
func TestFollow__who_starts_to_lead_is_not_seen_as_a_standby(t *testing.T) {
	server := maastest.Start(t)
	var seen []bool
	m := opened(t, Options{
		URL: shared.Old(t, server.URL), Owner: "me", Dir: logged(t, t.TempDir()), Follow: true,
		Compare: func(context.Context, remotefile.Memory, *remotefile.Listing, bool) (Relation, error) {
			seen = append(sessions(t, server.URL, "me"), sessions(t, server.URL, "me@follow")...)
			return HasAll, nil
		},
	})
	require.False(t, m.Following())
	require.Equal(t, []bool{true}, seen)
}

func TestFollow__a_standby_whose_session_was_lost_is_seen_again(t *testing.T) {
	server := maastest.Start(t)
	leaderOf(t, server.URL, "me")
	m := standbyOf(t, server.URL, "me")
	look(t, m)
	lost := m.reader.Lost()
	server.Restart()
	maastest.Receive(t, "the session is lost", lost)
	look(t, m)
	require.Equal(t, []bool{false}, sessions(t, server.URL, "me@follow"))
}

// The server logs each session that it refuses; four lines a second would fill its log.
func TestFollow__who_waits_for_the_name_tries_to_take_it_when_it_is_free(t *testing.T) {
	server := maastest.Start(t)
	first, m := nodes(t, server.URL)
	look(t, m)
	before := refused(t, server.URL)
	for range 3 {
		require.True(t, IsFollowed(m.Lead(context.Background())))
	}
	require.Equal(t, before, refused(t, server.URL))
	require.NoError(t, first.Close())
	require.NoError(t, m.Lead(context.Background()))
}

// The session that has the name is this process's own.
func TestFollow__who_has_the_name_already_leads(t *testing.T) {
	server := maastest.Start(t)
	first := leaderOf(t, server.URL, "me")
	m := standbyOf(t, server.URL, "me")
	require.True(t, IsFollowed(m.Lead(context.Background())))
	require.NoError(t, first.Close())
	m.client.Store(leaderOf(t, server.URL, "me")) // As Lead leaves it when a later step fails.
	m.LookAnew()
	require.NoError(t, m.Lead(context.Background()))
}

func TestFollow__without_a_session(t *testing.T) {
	server := maastest.Start(t)
	long := strings.Repeat("x", 63)
	leaderOf(t, server.URL, long)
	look(t, standbyOf(t, server.URL, long))

	leaderOf(t, server.URL, "me")
	leaderOf(t, server.URL, "me@follow") // Another owner's.
	look(t, standbyOf(t, server.URL, "me"))
	require.Equal(t, []bool{true}, sessions(t, server.URL, "me@follow"))
}

// A leader that is away for a moment has the time of a lease to come back, whoever starts meanwhile.
func TestFollow__who_starts_leaves_the_name_to_the_leader_of_a_server_that_lost_its_memory(t *testing.T) {
	server := maastest.Start(t)
	leader := watched(t, Options{URL: shared.Old(t, server.URL), Owner: "me", Follow: true})
	server.Restart()
	young := shared.Young(t, server.URL)
	for what, dir := range map[string]string{"an empty directory": t.TempDir(), "an older log": logged(t, t.TempDir())} {
		m := opened(t, Options{URL: young, Owner: "me", Dir: dir, Follow: true})
		require.True(t, m.Following(), what)
		require.True(t, IsFollowed(m.Lead(context.Background())), what)
	}
	require.NoError(t, leader.connect(context.Background()))
}
