// SPDX-License-Identifier: Apache-2.0

// Requests to the server: connections, retries, redirections, and checks of every answer.

package maas

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	maxConnections    = 8        // for calls
	maxControl        = 2        // for leases and health, which calls must not hold up
	bufferBytes       = 64 << 10 // for each direction of a connection
	maxHeaderBytes    = 16 << 10
	maxErrorBytes     = 16 << 10
	maxLocation       = 200
	idleTimeout       = 30 * time.Second // below the server's --connection-timeout
	connectTimeout    = 2 * time.Second  // and again for the handshake of TLS
	keepAliveInterval = 15 * time.Second
)

// naps are the pauses before a request is sent again after its connection broke: a server that
// restarts is soon back.
var naps = []time.Duration{20 * time.Millisecond, 80 * time.Millisecond}

// sender sends requests to one server. Its only state is connections, the token, which goes to that server
// alone, and the files of TLS. Any goroutine may use it.
type sender struct {
	address
	timeout time.Duration
	token   *token
	files   *tlsFiles // nil: none
	hasCAs  bool
	holds   func() error // before each piece of what changes memory; nil: the client may always

	mu    sync.Mutex
	conns *connections // guarded by mu
}

// connections began with the same certificate and CAs.
type connections struct {
	bulk    *http.Client
	control *http.Client
	number  int // the reading of the files
}

// call is one request, and the place for its answer.
type call struct {
	method       string
	path         string
	body         *body  // nil: none
	bytes        bool   // the body is bytes and not JSON
	byteRange    string // the Range header
	contentRange string // the Content-Range header
	control      bool
	changes      bool // what is in memory, or whose it is
	once         bool // it must not be sent twice
	follow       bool // follow one 307, to the same server

	answer    any     // gets the decoded JSON; nil: the answer is ignored
	maxAnswer int64   // the most bytes of JSON
	into      []Range // get the bytes of the answer, instead of answer
	wantRange string  // the Content-Range that the answer must have
}

func newSender(to address, o *Options) (*sender, error) {
	w := &sender{address: to, timeout: o.Timeout, token: newToken(o)}
	var config *tls.Config
	switch {
	case o.TLS != nil:
		config = tlsConfig(o.TLS)
		w.hasCAs = config.RootCAs != nil
	case to.tls:
		var err error
		if w.files, err = newTLSFiles(o); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrTLSFiles, err)
		}
		config, _ = w.files.get()
		w.hasCAs = o.CAFile != ""
	}
	w.conns = newConnections(to, config, 0)
	return w, nil
}

func newConnections(to address, config *tls.Config, number int) *connections {
	return &connections{
		bulk:    newHTTPClient(to, config, maxConnections),
		control: newHTTPClient(to, config, maxControl),
		number:  number,
	}
}

func (c *connections) close() {
	c.bulk.CloseIdleConnections()
	c.control.CloseIdleConnections()
}

// connections are new ones when the files of TLS have changed; requests under way go on with the old ones.
func (w *sender) connections() *connections {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.files == nil {
		return w.conns
	}
	if config, number := w.files.get(); number != w.conns.number {
		w.conns.close()
		w.conns = newConnections(w.address, config, number)
	}
	return w.conns
}

// retire ends connections that have become idle after they were replaced.
func (w *sender) retire(conns *connections) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if conns != w.conns {
		conns.close()
	}
}

func newHTTPClient(to address, config *tls.Config, connections int) *http.Client {
	// net/http goes on connecting when the request has ended, and no other may have that connection's place
	// meanwhile.
	dialer := &net.Dialer{Timeout: connectTimeout, KeepAlive: keepAliveInterval}
	transport := &http.Transport{
		DialContext:            dialer.DialContext,
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    connectTimeout,
		Proxy:                  nil, // requests do not go through a proxy
		DisableCompression:     true,
		MaxConnsPerHost:        connections,
		MaxIdleConnsPerHost:    connections,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
		ReadBufferSize:         bufferBytes,
		WriteBufferSize:        bufferBytes,
	}
	if to.unix != "" {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", to.unix)
		}
	}
	// try follows redirections itself; net/http would follow them to other servers.
	follow := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &http.Client{Transport: transport, CheckRedirect: follow}
}

func (w *sender) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns.close()
}

// do sends a call until there is an answer, within the timeout.
func (w *sender) do(ctx context.Context, c *call) error {
	started := time.Now()
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	if c.body != nil {
		defer c.body.detach()
	}
	if c.changes {
		c.body.holds = w.holds
	}
	refused := false // with the token or certificate before
	for try := 0; ; try++ {
		conns := w.connections()
		token, reading, err := w.token.get(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", w.text, printableError{err})
		}
		err = w.try(ctx, conns, c, token)
		w.retire(conns)
		if err == nil {
			return nil
		}
		if !refused && (errors.Is(err, ErrToken) || isUntrusted(err)) {
			refused = true
			other, whyToken := w.token.isOther(ctx, reading)
			renewed, whyFiles := w.files.isOther(conns.number)
			if other || renewed {
				continue
			}
			for _, why := range []error{whyToken, whyFiles} {
				if why != nil {
					err = fmt.Errorf("%w; %w", err, printableError{why})
				}
			}
		}
		if c.once || try == len(naps) || !broke(err) || !sleep(ctx, naps[try]) {
			return w.explain(ctx, started, err)
		}
	}
}

// sleep returns false if the context ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// broke tells whether the server's end of the connection is gone. Then nothing of the request is
// still on its way, and could arrive after a second try.
func broke(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, net.ErrClosed) // net/http has read the end while it was still sending.
}

func (w *sender) request(ctx context.Context, c *call, path, token string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, c.method, w.base+path, nil)
	if err != nil {
		return nil, err
	}
	if c.body != nil {
		req.Body, _ = c.body.open()
		req.GetBody = c.body.open
		req.ContentLength = c.body.size
		req.Header.Set("Content-Type", "application/json")
		if c.bytes {
			req.Header.Set("Content-Type", "application/octet-stream")
		}
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if c.byteRange != "" {
		req.Header.Set("Range", c.byteRange)
	}
	if c.contentRange != "" {
		req.Header.Set("Content-Range", c.contentRange)
	}
	if !c.once {
		// This tells net/http, and nobody else, that it may repeat the request if a kept
		// connection turns out to be closed.
		req.Header["X-Idempotency-Key"] = nil
	}
	return req, nil
}

// send sends the call once. Owns: the caller, the answer's body.
func (w *sender) send(ctx context.Context, conns *connections, c *call, path, token string) (*http.Response, error) {
	req, err := w.request(ctx, c, path, token)
	if err != nil {
		return nil, err
	}
	client := conns.bulk
	if c.control {
		client = conns.control
	}
	resp, err := client.Do(req)
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err // its text has the URL again
	}
	return resp, err
}

func (w *sender) try(ctx context.Context, conns *connections, c *call, token string) error {
	resp, err := w.send(ctx, conns, c, c.path, token)
	if err != nil {
		return err
	}
	if resp.StatusCode == http.StatusTemporaryRedirect && c.follow {
		path, same := w.redirected(resp)
		resp.Body.Close()
		if !same {
			return fmt.Errorf("the server redirects to another one, which was not asked: %q",
				shorten(resp.Header.Get("Location"), maxLocation))
		}
		if resp, err = w.send(ctx, conns, c, path, token); err != nil {
			return err
		}
	}
	defer resp.Body.Close()
	want := http.StatusOK
	if c.wantRange != "" {
		want = http.StatusPartialContent
	}
	switch {
	case resp.StatusCode != want:
		return readError(resp, want)
	case c.into != nil:
		return readBytes(resp, c)
	default:
		return readJSON(resp, c)
	}
}

// redirected returns the path of a redirection that leads to the same server; its host is not used.
func (w *sender) redirected(resp *http.Response) (path string, same bool) {
	to, err := resp.Location()
	if err != nil || to.User != nil || to.Opaque != "" {
		return "", false
	}
	ours, err := url.Parse(w.base)
	if err != nil || to.Scheme != ours.Scheme || hostOf(to) != hostOf(ours) {
		return "", false
	}
	return to.RequestURI(), true
}

// hostOf is the URL's host and port, however they are written.
func hostOf(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

func readError(resp *http.Response, want int) error {
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		return fmt.Errorf("the server redirects to %q (status %d); only an allocation follows one 307, and once",
			shorten(resp.Header.Get("Location"), maxLocation), resp.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBytes))
	if err != nil {
		return err
	}
	if resp.StatusCode < 400 {
		return fmt.Errorf("the server answered with status %d where %d was due; is it maasd?", resp.StatusCode, want)
	}
	return parseError(resp.StatusCode, resp.Header.Get("WWW-Authenticate"), text)
}

func readJSON(resp *http.Response, c *call) error {
	limit := c.maxAnswer
	if c.answer == nil {
		limit = maxErrorBytes
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return err
	}
	if int64(len(text)) > limit {
		return fmt.Errorf("the server's answer is longer than the %d bytes it can have; is it maasd?", limit)
	}
	if c.answer == nil {
		return nil
	}
	if err := json.Unmarshal(text, c.answer); err != nil {
		return fmt.Errorf("the server's answer makes no sense; is it maasd? %s", shorten(printable(err.Error()), maxMessage))
	}
	return nil
}

// readBytes reads exactly the bytes that were asked for into their ranges.
func readBytes(resp *http.Response, c *call) error {
	want := sumOf(c.into)
	if got := resp.Header.Get("Content-Range"); !strings.HasPrefix(got, c.wantRange) {
		return wrongRange(got, c)
	}
	if resp.ContentLength >= 0 && resp.ContentLength != want {
		return fmt.Errorf("the server sent %d bytes where %d were asked for", resp.ContentLength, want)
	}
	for i := range c.into {
		if _, err := io.ReadFull(resp.Body, c.into[i].Data); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	// Reading the end makes the connection fit for the next request.
	var more [1]byte
	n, err := io.ReadFull(resp.Body, more[:])
	switch {
	case n > 0:
		return fmt.Errorf("the server sent more than the %d bytes that were asked for", want)
	case errors.Is(err, io.EOF):
		return nil
	default:
		return err
	}
}

// wrongRange explains a range that is not the one asked for. By HTTP, a server cuts off what lies
// behind the end.
func wrongRange(got string, c *call) error {
	var first, last, total int64
	r := &c.into[0]
	_, err := fmt.Sscanf(got, "bytes %d-%d/%d", &first, &last, &total)
	if err == nil && first == r.Offset && last == total-1 && total < r.Offset+int64(len(r.Data)) {
		return &Error{
			Status: http.StatusRequestedRangeNotSatisfiable, Code: "bad_range",
			Message: fmt.Sprintf("the range lies outside of the allocation's %d bytes", total),
		}
	}
	return fmt.Errorf("the server sent the range %q where %q was asked for", shorten(got, 80), c.wantRange)
}

// explain says what was tried, and what to do about an error of the connection.
func (w *sender) explain(ctx context.Context, started time.Time, err error) error {
	var refusal *Error
	var noHost *net.DNSError
	var late net.Error
	if errors.As(err, &refusal) {
		return fmt.Errorf("%s: %w", w.text, err)
	}
	if ctx.Err() != nil {
		return w.explainEnd(ctx, started)
	}
	advice := w.explainTLS(ctx, err)
	err = printableError{err}
	switch {
	case advice != "":
		return fmt.Errorf("%s: %w", advice, err)
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT):
		return fmt.Errorf("%s: %w; start maasd there or correct the URL", w.text, err)
	case errors.As(err, &noHost):
		return fmt.Errorf("%s: %w; correct the URL or the name service", w.text, err)
	case errors.As(err, &late) && late.Timeout():
		return fmt.Errorf("%s: %w; see whether maasd and the network are well", w.text, err)
	case broke(err):
		return fmt.Errorf("%s: the connection broke: %w; see whether maasd still runs there", w.text, err)
	}
	return fmt.Errorf("%s: %w", w.text, err)
}

func (w *sender) explainEnd(ctx context.Context, started time.Time) error {
	cause := context.Cause(ctx)
	if errors.Is(cause, context.DeadlineExceeded) {
		took := time.Since(started).Round(time.Millisecond)
		return fmt.Errorf("%s did not answer within %v: %w; see whether maasd and the network are well, or allow more time",
			w.text, took, cause)
	}
	return fmt.Errorf("%s: %w", w.text, cause)
}
