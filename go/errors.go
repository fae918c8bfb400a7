// SPDX-License-Identifier: Apache-2.0

// Errors, and text from a server made fit for terminals and logs.

package maas

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"
)

var (
	// ErrNameTaken: another session of that name lives, and one of the two is exclusive.
	ErrNameTaken = errors.New("the session's name is taken")
	// ErrSessionLost: the lease lapsed, or the server does not know the session any more.
	ErrSessionLost = errors.New("the session is lost; open a new client to go on")
	// ErrToken: the server does not know the token, or asks for one; or there is none where the options
	// say.
	ErrToken = errors.New("no token that the server knows")
	// ErrTLSFiles: a file of Options that TLS needs cannot be used.
	ErrTLSFiles = errors.New("a file of TLS cannot be used")
	// ErrClosed: the client was closed.
	ErrClosed = errors.New("the client is closed")
)

// Error is a refusal: the server has understood the request, and says why it refuses it.
type Error struct {
	Status  int    // of HTTP
	Code    string // for programs, see docs/openapi.yaml; empty if the answer was not maasd's
	Message string // for people
	// Quota names the quota that is reached, as the server's /whoami does, and Principal whose it is, where
	// the client may know. Over HTTP; over RDMA the message alone says so.
	Quota, Principal string

	challenged bool // asks for a token: also a 429 does, where many requests of the address had none
}

// remedies say what to do about each code.
var remedies = map[string]string{
	"device_limit":     "free memory: the server's RDMA device has no more keys",
	"draining":         "wait until it is back, or go to another",
	"grants_exhausted": "free memory or start maasd with a larger --max-grants",
	"name_taken":       "end the client that holds the name, or wait until its lease lapses",
	"not_found":        "it was freed, its lease lapsed, or the server restarted without its memory",
	"pool_exhausted":   "free memory or start maasd with a larger --max-pool-size",
	"stopping":         "wait until it is back, or go to another",
	"too_large":        "ask for several smaller ones, or start maasd with a larger class in --slab-sizes",
	"unauthenticated":  "the client's token is in Options.TokenFile, its certificate in Options.CertFile (Prometheus: --storage.tsdb.maas.http-config-file)",
	"unknown_session":  "its lease lapsed or the server restarted: open a new client",
}

func (e *Error) Error() string {
	text := fmt.Sprintf("%d %s", e.Status, e.Code)
	if e.Code == "" {
		text = fmt.Sprintf("%d %s", e.Status, http.StatusText(e.Status))
	}
	if e.Message != "" {
		text += ": " + e.Message
	}
	code := e.Code
	if e.challenged {
		code = "unauthenticated"
	}
	if remedy := remedies[code]; remedy != "" {
		text += "; " + remedy
	}
	return text
}

// Is makes errors.Is find ErrNameTaken, ErrSessionLost and ErrToken.
func (e *Error) Is(target error) bool {
	switch target {
	case ErrNameTaken:
		return e.Code == "name_taken"
	case ErrSessionLost:
		return e.Code == "unknown_session"
	case ErrToken:
		return e.Status == http.StatusUnauthorized || e.challenged
	}
	return false
}

// IsNotFound tells whether the server has no such allocation.
func IsNotFound(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == http.StatusNotFound && e.Code == "not_found"
}

// IsExhausted tells whether the server has no memory, or no keys to it, to lend, or not to this
// principal.
func IsExhausted(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == http.StatusInsufficientStorage
}

const maxMessage = 500

// parseError reads the body of an answer that reports a failure. challenge is its WWW-Authenticate.
func parseError(status int, challenge string, body []byte) *Error {
	var answer struct {
		Error struct {
			Code      string `json:"code"`
			Message   string `json:"message"`
			Quota     string `json:"quota"`
			Principal string `json:"principal"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &answer) != nil || answer.Error.Code == "" {
		return &Error{Status: status, Message: "the answer is not maasd's; is the URL right?"}
	}
	return &Error{
		Status: status, Code: printable(shorten(answer.Error.Code, 40)),
		Message:    printable(shorten(answer.Error.Message, maxMessage)),
		Quota:      printable(shorten(answer.Error.Quota, 40)),
		Principal:  printable(shorten(answer.Error.Principal, 64)),
		challenged: challenge != "",
	}
}

// printable escapes text from another machine, so that it can neither steer a terminal nor begin a
// line of a log.
func printable(text string) string {
	var b strings.Builder
	for i, r := range text {
		_, size := utf8.DecodeRuneInString(text[i:])
		if unicode.IsPrint(r) && (r != utf8.RuneError || size > 1) {
			b.WriteString(text[i : i+size])
			continue
		}
		for _, c := range []byte(text[i : i+size]) {
			fmt.Fprintf(&b, "\\x%02x", c)
		}
	}
	return b.String()
}

// printableError is an error whose text may contain text from a server.
type printableError struct{ error }

func (e printableError) Error() string { return printable(e.error.Error()) }

func (e printableError) Unwrap() error { return e.error }

// shorten cuts text from another machine, so that it cannot flood a log.
func shorten(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit] + "…"
}
