// SPDX-License-Identifier: Apache-2.0

// Package maastest runs a maasd for a test, which may kill it, start it again, let it hang, or stand between the server
// and its client. Fatal, Must and Err are for every test: a failure shows all lines that led there.
package maastest

import (
	"bufio"
	"cmp"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Patience is how long a test waits for what has to happen; a slow machine only makes it wait.
const Patience = time.Minute

// Server is a maasd on this machine.
type Server struct {
	URL  string
	t    testing.TB
	args []string
	cmd  *exec.Cmd
}

var listening = regexp.MustCompile(`^Listening on (\S+)`)

// Binary is the maasd to test with: $MAAS_BIN, or what the development build left.
func Binary(t testing.TB) string {
	if bin := os.Getenv("MAAS_BIN"); bin != "" {
		return bin
	}
	_, file, _, _ := runtime.Caller(0)
	bin := filepath.Join(filepath.Dir(file), "../../build/dev/daemon/maasd")
	if _, err := os.Stat(bin); err != nil {
		t.Fatalf("no maasd to test with: set MAAS_BIN, or build the preset dev: %v", err)
	}
	return bin
}

// Transport is what the tests run over: $MAAS_TEST_TRANSPORT, or http. For rdma this machine needs a
// device, whose address is $SOFTROCE_ADDR.
func Transport() string {
	return cmp.Or(os.Getenv("MAAS_TEST_TRANSPORT"), "http")
}

// Start starts a maasd, on a free port unless the options have --listen; it ends with the test.
func Start(t testing.TB, options ...string) *Server {
	host, rdma := "127.0.0.1", "off"
	if Transport() == "rdma" {
		host, rdma = os.Getenv("SOFTROCE_ADDR"), "required"
	}
	s := &Server{t: t, args: append([]string{"--rdma", rdma, "--log-level", "warn"}, options...)}
	if !slices.ContainsFunc(options, isListen) {
		s.args = append(s.args, "--listen", host+":0")
	}
	t.Cleanup(s.Kill)
	s.start()
	return s
}

func isListen(option string) bool {
	return option == "--listen" || strings.HasPrefix(option, "--listen=")
}

// start returns when the server listens. Nothing of the caller's environment reaches the server.
func (s *Server) start() {
	s.cmd = exec.Command(Binary(s.t), s.args...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	s.cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "MAAS_") })
	stderr, err := s.cmd.StderrPipe()
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		Fatal(s.t, err)
	}
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		if m := listening.FindStringSubmatch(lines.Text()); m != nil {
			s.URL = m[1]
			go func() {
				for lines.Scan() {
				}
			}()
			return
		}
		s.t.Log(lines.Text())
	}
	Fatal(s.t, "maasd does not listen:", s.cmd.Wait())
}

// Kill ends the server as a crash would.
func (s *Server) Kill() {
	if s.cmd != nil && s.cmd.Process != nil && s.cmd.ProcessState == nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	}
}

// Restart ends the server, unless it was killed, and starts it again on the same port.
func (s *Server) Restart() {
	s.Kill()
	at := slices.IndexFunc(s.args, isListen) // of several the first, whose address is the URL
	if _, address, isIP := strings.Cut(s.URL, "://"); isIP && s.args[at] == "--listen" {
		s.args[at+1] = address
	} else if isIP {
		s.args[at] = "--listen=" + address
	}
	s.start()
}

// Pause stops the server, as if its host hung, and returns when every thread stands still.
func (s *Server) Pause() {
	s.signal(syscall.SIGSTOP)
	Eventually(s.t, "maasd stands still", func() bool {
		stats, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", s.cmd.Process.Pid))
		for _, name := range stats {
			if b, err := os.ReadFile(name); err != nil || !strings.Contains(string(b), ") T ") {
				return false
			}
		}
		return len(stats) > 0
	})
}

// Resume lets the server go on.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	if err := s.cmd.Process.Signal(sig); err != nil {
		Fatal(s.t, err)
	}
}

// Eventually waits until something holds.
func Eventually(t testing.TB, what string, holds func() bool) {
	for deadline := time.Now().Add(Patience); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			Fatal(t, "a minute later still not:", what)
		}
	}
}

// Receive waits for a value, or for the end of a channel.
func Receive[T any](t testing.TB, what string, from <-chan T) (value T) {
	select {
	case value = <-from:
	case <-time.After(Patience):
		Fatal(t, "a minute later still not:", what)
	}
	return value
}

// Proxy returns the URL of a proxy in front of a server, which ends with the test. Each request goes through handle,
// which answers it, or has the server answer it, by serve.
func Proxy(t testing.TB, server string, handle func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc)) string {
	target, err := url.Parse(server)
	if err != nil {
		Fatal(t, err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) },
		// A client that gives up is not an error.
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handle(w, r, proxy.ServeHTTP) }))
	t.Cleanup(front.Close)
	return front.URL
}

// Log is a log that a test reads while it is written.
type Log struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// Count is how often the words are there.
func (l *Log) Count(words string) int { return strings.Count(l.String(), words) }

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Fatal ends a test and says why, and which lines led there: no helper of a test needs t.Helper.
func Fatal(t testing.TB, why ...any) {
	t.Helper()
	pcs := make([]uintptr, 30)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for frame, more := frames.Next(); more && frame.Function != "testing.tRunner"; frame, more = frames.Next() {
		why = append(why, fmt.Sprintf("\n\t%s:%d", filepath.Base(frame.File), frame.Line))
	}
	t.Fatal(why...)
}

// Must is the value of a call that has to succeed: Must(os.ReadFile(path))(t).
func Must[T any](value T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		if err != nil {
			Fatal(t, err)
		}
		return value
	}
}

// Err is the error of a call whose value does not matter.
func Err[T any](_ T, err error) error { return err }
