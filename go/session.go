// SPDX-License-Identifier: Apache-2.0

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
	renewalsInLease = 3 // one is sent when a third of the lease is over
)

// httpSession is a session that is kept over HTTP.
type httpSession struct {
	wire *wire
	id   string
	ttl  time.Duration // as the last answer has it; keep alone changes it

	living   context.Context // ends when the session is lost, with the reason as its cause
	lose     context.CancelCauseFunc
	stop     context.CancelFunc // ends keep
	kept     sync.WaitGroup
	mu       sync.Mutex
	until    time.Time // guarded by mu
	notThere bool      // guarded by mu: the server has said that it does not know the session
}

type sessionAnswer struct {
	ID  string `json:"id"`
	TTL int64  `json:"ttl_seconds"`
}

// lease is what the server grants, whatever was asked for.
func (a *sessionAnswer) lease() (time.Duration, error) {
	if a.TTL < 1 || a.TTL > int64(maxTTL/time.Second) {
		return 0, fmt.Errorf("the server grants a lease of %d s; is it maasd?", a.TTL)
	}
	return time.Duration(a.TTL) * time.Second, nil
}

func openSession(ctx context.Context, w *wire, o *Options) (*httpSession, error) {
	request, err := json.Marshal(struct {
		Name      string `json:"name"`
		TTL       int64  `json:"ttl_seconds"`
		Exclusive bool   `json:"exclusive"`
	}{o.Name, int64(o.SessionTTL / time.Second), o.Exclusive})
	if err != nil {
		return nil, err
	}
	var answer sessionAnswer
	sent := time.Now()
	// Once: a second one would find the name taken by the first, whose answer was lost.
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
	s := &httpSession{wire: w, id: answer.ID, ttl: ttl, until: sent.Add(ttl)}
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

// EndSession ends a session whose client cannot do so any more, because its process is dead: its name is free
// at once, and not when its lease lapses. That there is no such session is no error. Options.Name is of no
// interest.
func EndSession(ctx context.Context, o Options, id string) error {
	to, err := o.check()
	if err == nil && !answeredID.MatchString(id) {
		err = fmt.Errorf("%q is no id of a session", shorten(id, 40))
	}
	if err != nil {
		return fmt.Errorf("maas: end a session: %w", err)
	}
	w := newWire(to, o.Timeout)
	defer w.close()
	if err := w.do(ctx, &call{method: "DELETE", path: "/sessions/" + id, control: true}); err != nil && !errors.Is(err, ErrSessionLost) {
		return fmt.Errorf("maas: end a session: %w", err)
	}
	return nil
}

// SessionAge says how long a session of a name has been open, if one is. It may have ended by the time of the answer;
// and the name of one that is ending is taken, too: only who opens one knows. Of several, it is the oldest's.
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
	err = c.wire.do(ctx, &call{
		method: "GET", path: "/sessions?name=" + url.QueryEscape(name), control: true, answer: &answer, maxAnswer: maxSmallAnswer,
	})
	if err == nil && answer.Sessions == nil {
		err = fmt.Errorf("%s: the server's answer has no sessions; is it maasd?", c.wire.text)
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
	return s.until, s.living.Err() == nil && time.Now().Before(s.until)
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
			s.lose(fmt.Errorf("its lease of %v lapsed, last: %w: %w", s.ttl, err, ErrSessionLost))
			return
		case err != nil:
			pause = min(retryInterval, time.Until(until))
		}
	}
}

// renew does not wait beyond the lease, nor so long that no second try would fit into it.
func (s *httpSession) renew(ctx context.Context) error {
	until, _ := s.lease()
	sent := time.Now()
	deadline := sent.Add(s.ttl / renewalsInLease)
	if until.Before(deadline) {
		deadline = until
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	var answer sessionAnswer
	err := s.wire.do(ctx, &call{
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
	// The end that others have acted upon is not taken back.
	if time.Now().Before(s.until) {
		s.until = sent.Add(ttl)
	}
	return nil
}

// unknown takes the session for lost because the server is known not to have it.
func (s *httpSession) unknown(err error) {
	s.mu.Lock()
	s.notThere = true
	s.mu.Unlock()
	if !errors.Is(err, ErrSessionLost) {
		err = fmt.Errorf("%w: %w", err, ErrSessionLost)
	}
	s.lose(err)
}

// end tells the server even about a session whose lease lapsed here: it may still hold its name
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
	err := s.wire.do(ctx, &call{method: "DELETE", path: "/sessions/" + s.id, control: true})
	if err == nil || errors.Is(err, ErrSessionLost) || s.living.Err() != nil {
		return nil
	}
	return fmt.Errorf("end the session (it ends by itself within %v): %w", s.ttl, err)
}
