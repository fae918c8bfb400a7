// SPDX-License-Identifier: Apache-2.0

// Sessions over HTTP: opening, renewing, ending and looking at them.

package maas

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"
)

const (
	retryInterval   = 250 * time.Millisecond // after a renewal that failed
	maxSmallAnswer  = 64 << 10
	renewalsInLease = 3 // a renewal is sent when a third of the lease is over
)

// httpSession is a session that this package keeps alive over HTTP.
type httpSession struct {
	sender *sender
	id     string
	ttl    time.Duration // from the last answer; only keep changes it

	living   context.Context // ends when the session is lost, with the reason as its cause
	lose     context.CancelCauseFunc
	stop     context.CancelFunc // ends keep
	kept     sync.WaitGroup
	mu       sync.Mutex
	until    time.Time     // guarded by mu
	lapses   time.Duration // guarded by mu; the same on clock, and earlier if the machine slept meanwhile
	notThere bool          // guarded by mu; the server said that it does not know the session
}

// started is when the process began; clock is the clock of leases. Tests replace it.
var (
	started = time.Now()
	clock   = sinceBoot
)

type sessionAnswer struct {
	ID  string `json:"id"`
	TTL int64  `json:"ttl_seconds"`
}

// lease is the lease that the server granted, whatever was asked for.
func (a *sessionAnswer) lease() (time.Duration, error) {
	if a.TTL < 1 || a.TTL > int64(maxTTL/time.Second) {
		return 0, fmt.Errorf("the server grants a lease of %d s; is it maasd?", a.TTL)
	}
	return time.Duration(a.TTL) * time.Second, nil
}

func openSession(ctx context.Context, w *sender, o *Options) (*httpSession, error) {
	request, err := json.Marshal(struct {
		Name      string `json:"name"`
		TTL       int64  `json:"ttl_seconds"`
		Exclusive bool   `json:"exclusive"`
	}{o.Name, int64(o.SessionTTL / time.Second), o.Exclusive})
	if err != nil {
		return nil, err
	}
	var answer sessionAnswer
	sent, clocked := time.Now(), clock()
	// Sent once: a second request would find the name taken by the first, if only its answer
	// was lost.
	err = w.do(ctx, &call{
		method: "POST", path: "/sessions", body: newBody(request, nil), control: true, once: true,
		answer: &answer, maxAnswer: maxSmallAnswer,
	})
	if err != nil {
		return nil, err
	}
	if !answeredID.MatchString(answer.ID) {
		return nil, fmt.Errorf("%s: the server's answer has no session's id; is it maasd?", w.text)
	}
	ttl, err := answer.lease()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", w.text, err)
	}
	s := &httpSession{sender: w, id: answer.ID, ttl: ttl, until: sent.Add(ttl), lapses: clocked + ttl}
	s.living, s.lose = context.WithCancelCause(context.Background())
	keeping, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.kept.Add(1)
	go func() {
		defer s.kept.Done()
		s.keep(keeping)
	}()
	return s, nil
}

// EndSession ends a session whose client is dead and so cannot end it. The name is free at once,
// and not only when the lease ends. A session that does not exist is no error. Options.Name is
// ignored.
func EndSession(ctx context.Context, o Options, id string) error {
	to, err := o.check()
	if err == nil && !answeredID.MatchString(id) {
		err = fmt.Errorf("%q is no id of a session", shorten(id, 40))
	}
	if err != nil {
		return fmt.Errorf("maas: end a session: %w", err)
	}
	w, err := newSender(to, &o)
	if err != nil {
		return fmt.Errorf("maas: end a session: %w", err)
	}
	defer w.close()
	if err := w.do(ctx, &call{method: "DELETE", path: "/sessions/" + id, control: true}); err != nil && !errors.Is(err, ErrSessionLost) {
		return fmt.Errorf("maas: end a session: %w", err)
	}
	return nil
}

// SessionAge says how long a session of this name has been open, if there is one; of several, the
// oldest counts. The session may have ended by the time of the answer. A name may also be taken by
// a session that is just ending, so only opening one tells for sure.
func (c *Client) SessionAge(ctx context.Context, name string) (age time.Duration, open bool, err error) {
	ctx, done, err := c.begin(ctx, false)
	if err != nil {
		return 0, false, fmt.Errorf("maas: sessions %q: %w", name, err)
	}
	defer done()
	var answer struct {
		Sessions []struct {
			Age uint32 `json:"age_seconds"`
		} `json:"sessions"`
	}
	err = c.sender.do(ctx, &call{
		method: "GET", path: "/sessions?name=" + url.QueryEscape(name), control: true, answer: &answer, maxAnswer: maxSmallAnswer,
	})
	if err == nil && answer.Sessions == nil {
		err = fmt.Errorf("%s: the server's answer has no sessions; is it maasd?", c.sender.text)
	}
	if err != nil {
		return 0, false, fmt.Errorf("maas: sessions %q: %w", name, err)
	}
	for _, s := range answer.Sessions {
		age = max(age, time.Duration(s.Age)*time.Second)
	}
	return age, len(answer.Sessions) > 0, nil
}

func (s *httpSession) name() string { return s.id }

func (s *httpSession) lost() context.Context { return s.living }

func (s *httpSession) lease() (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	until, runs := s.leaseEnd()
	return until, runs && s.living.Err() == nil
}

// leaseEnd is the end of the lease, and whether that is still to come. Call it with mu held.
func (s *httpSession) leaseEnd() (until time.Time, runs bool) {
	now := time.Now()
	left := min(s.until.Sub(now), s.lapses-clock())
	if left > 0 {
		return now.Add(left), true
	}
	if now.Before(s.until) {
		return now, false // It ended while the machine slept, which is no time on this clock.
	}
	return s.until, false
}

// keep renews the lease until the session is lost or ended.
func (s *httpSession) keep(ctx context.Context) {
	pause := s.ttl / renewalsInLease
	for sleep(ctx, pause) {
		err := s.renew(ctx)
		pause = s.ttl / renewalsInLease
		until, ok := s.lease()
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, ErrSessionLost):
			s.unknown(err)
			return
		case !ok:
			if err == nil {
				err = errors.New("the renewal was answered too late")
			}
			s.lose(fmt.Errorf("its lease of %v lapsed, last: %v: %w", s.ttl, err, ErrSessionLost))
			return
		case err != nil:
			pause = min(retryInterval, time.Until(until))
		}
	}
}

// renew waits neither beyond the lease, nor for so long that a second try would not fit into the
// lease.
func (s *httpSession) renew(ctx context.Context) error {
	until, _ := s.lease()
	sent, clocked := time.Now(), clock()
	deadline := sent.Add(s.ttl / renewalsInLease)
	if until.Before(deadline) {
		deadline = until
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	// Half of the time is left for the renewal itself, with the token that is known.
	looking, looked := context.WithTimeout(ctx, time.Until(deadline)/2)
	s.sender.token.look(looking)
	looked()
	var answer sessionAnswer
	err := s.sender.do(ctx, &call{
		method: "POST", path: "/sessions/" + s.id + "/renew", body: newBody([]byte("{}"), nil), control: true,
		answer: &answer, maxAnswer: maxSmallAnswer,
	})
	if err != nil {
		return err
	}
	ttl, err := answer.lease()
	if err != nil {
		return err
	}
	s.ttl = ttl
	s.mu.Lock()
	defer s.mu.Unlock()
	// Others may have acted on the end of the lease: it is not taken back.
	if _, runs := s.leaseEnd(); runs {
		s.until, s.lapses = sent.Add(ttl), clocked+ttl
	}
	return nil
}

// unknown ends a session that the server does not know.
func (s *httpSession) unknown(err error) {
	s.mu.Lock()
	s.notThere = true
	s.mu.Unlock()
	if !errors.Is(err, ErrSessionLost) {
		err = fmt.Errorf("%w: %w", err, ErrSessionLost)
	}
	s.lose(err)
}

// end also tells the server about a session whose lease ended here: it may still have its name
// there.
func (s *httpSession) end() error {
	s.stop()
	s.kept.Wait()
	s.mu.Lock()
	notThere := s.notThere
	s.mu.Unlock()
	if notThere {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), endTimeout)
	defer cancel()
	err := s.sender.do(ctx, &call{method: "DELETE", path: "/sessions/" + s.id, control: true})
	if err == nil || errors.Is(err, ErrSessionLost) || s.living.Err() != nil {
		return nil
	}
	return fmt.Errorf("end the session (it ends by itself within %v): %w", s.ttl, err)
}
