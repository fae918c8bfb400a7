// SPDX-License-Identifier: Apache-2.0

// Tokens: who sends the requests, for a server with --auth-file.

package maas

import (
	"bytes"
	"context"
	"fmt"
	"sync"
)

const (
	maxToken     = 255  // bytes, as in libmaas
	maxTokenFile = 4096 // only the first line counts
)

// token is what a client sends with each request. It is asked for when it is first needed, with each
// renewal of a session, and when the server refuses it. No error has it in its text.
type token struct {
	source func() (string, error) // nil: there is none

	mu      sync.Mutex
	text    string    // guarded by mu; empty: not asked for yet
	before  string    // guarded by mu: the one that was replaced, or empty
	reading int       // guarded by mu: how often the token was another
	asked   *question // guarded by mu: what source has not answered yet, or nil
}

// question is a call of the source. Its answer is for all who ask meanwhile.
type question struct {
	answered chan struct{} // closed when the token is there, or err
	err      error
}

func newToken(o *Options) *token {
	if o.TokenFile != "" {
		return &token{source: func() (string, error) { return readToken(o.TokenFile) }}
	}
	return &token{source: o.Token}
}

// get returns the token, and which reading it is.
func (t *token) get(ctx context.Context) (text string, reading int, err error) {
	if t.source == nil {
		return "", 0, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.text == "" {
		err = t.ask(ctx)
	}
	return t.text, t.reading, err
}

// look asks whether there is another token by now: a session ends with the token that it was last used
// with, so the new one is used before the old one goes. The old one stays at hand, for a server that does
// not know the new one yet.
func (t *token) look(ctx context.Context) {
	if t.source == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	_ = t.ask(ctx)
}

// isOther tells whether there is another token than the one of that reading, which the server
// refused. With the same one it would only count one more failure.
func (t *token) isOther(ctx context.Context, reading int) (bool, error) {
	if t.source == nil {
		return false, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var err error
	for joins := true; joins && err == nil && t.reading == reading; {
		joins = t.asked != nil // A question from before the refusal may have the answer of before.
		err = t.ask(ctx)
	}
	switch {
	case t.reading == reading+1:
		t.before = "" // It is the refused one.
		return true, nil
	case t.reading != reading:
		return true, nil
	case t.before == "":
		return false, err
	}
	t.text, t.before = t.before, ""
	t.reading++
	return true, nil
}

// ask calls the source, which may take long, in the background, and takes its answer whenever that comes:
// nobody waits for the source longer than ctx. Caller holds mu, which is free meanwhile.
func (t *token) ask(ctx context.Context) error {
	q := t.asked
	if q == nil {
		q = &question{answered: make(chan struct{})}
		t.asked = q
		go t.answer(q)
	}
	t.mu.Unlock()
	defer t.mu.Lock()
	select {
	case <-q.answered:
		return q.err
	case <-ctx.Done():
		return fmt.Errorf("%w: its source has not answered: %w", ErrToken, context.Cause(ctx))
	}
}

func (t *token) answer(q *question) {
	text, err := t.source()
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err != nil:
		q.err = fmt.Errorf("%w: %w", ErrToken, err)
	case !isToken(text):
		q.err = fmt.Errorf("%w: it must be 1 to %d visible characters of ASCII", ErrToken, maxToken)
	case t.text == "":
		t.text = text
	case t.text != text:
		t.before, t.text = t.text, text
		t.reading++
	}
	t.asked = nil
	close(q.answered)
}

func isToken(text string) bool {
	for _, c := range []byte(text) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return text != "" && len(text) <= maxToken
}

// readToken reads the first line of a file that others may not read.
func readToken(path string) (string, error) {
	text, err := readFile(path, maxTokenFile, true)
	if err != nil {
		return "", err
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	line = bytes.Trim(line, " \t\r")
	if !isToken(string(line)) {
		return "", fmt.Errorf("%s: its first line is no token: 1 to %d visible characters of ASCII", path, maxToken)
	}
	return string(line), nil
}
