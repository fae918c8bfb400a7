// SPDX-License-Identifier: Apache-2.0

package maas

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for what has to happen; a slow machine only makes it wait.
const patience = 60 * time.Second

// TestMain fails when a goroutine of the package outlives the tests.
func TestMain(m *testing.M) {
	status := m.Run()
	if status == 0 {
		if left := goroutinesLeft(); left != "" {
			fmt.Fprintf(os.Stderr, "goroutines that are left:\n\n%s\n", left)
			status = 1
		}
	}
	os.Exit(status)
}

func goroutinesLeft() string {
	var left []string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		buf := make([]byte, 1<<20)
		all := strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")
		left = nil
		for _, stack := range all[1:] { // the first is this one
			if !strings.Contains(stack, "os/signal.") && !strings.Contains(stack, "runtime.ensureSigM") {
				left = append(left, stack)
			}
		}
		if len(left) == 0 {
			return ""
		}
	}
	return strings.Join(left, "\n\n")
}

// wantedTransport is what the tests run over: MAAS_TEST_TRANSPORT, or HTTP.
func wantedTransport() string {
	if t := os.Getenv("MAAS_TEST_TRANSPORT"); t != "" {
		return t
	}
	return TransportHTTP
}

// server is a maasd of the test's own.
type server struct {
	t    testing.TB
	url  string
	cmd  *exec.Cmd
	logs chan string
}

func maasdPath(t testing.TB) string {
	path := os.Getenv("MAAS_BIN")
	if path == "" {
		path = "../build/dev/daemon/maasd"
	}
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("no maasd to test against: %v; build it, or set MAAS_BIN", err)
	}
	return path
}

var listening = regexp.MustCompile(`^Listening on (\S+)`)

// startServer starts one that is ended with the test.
func startServer(t testing.TB, options ...string) *server {
	t.Helper()
	host := "127.0.0.1"
	args := []string{"--rdma", "off", "--log-level", "warn"}
	if wantedTransport() == TransportRDMA {
		host = os.Getenv("SOFTROCE_ADDR")
		args = []string{"--rdma", "required", "--log-level", "warn"}
	}
	if !strings.Contains(strings.Join(options, " "), "--listen") {
		args = append(args, "--listen", host+":0")
	}
	s := &server{t: t, cmd: exec.Command(maasdPath(t), append(args, options...)...), logs: make(chan string, 1)}
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "MAAS_") {
			s.cmd.Env = append(s.cmd.Env, variable)
		}
	}
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.kill)
	found := make(chan string, 1)
	go s.follow(stderr, found)
	select {
	case s.url = <-found:
	case <-time.After(patience):
	}
	if s.url == "" {
		s.kill()
		t.Fatalf("maasd did not start:\n%s", <-s.logs)
	}
	return s
}

// follow sends the URL, or nothing when the server ends without one, and keeps the log.
func (s *server) follow(stderr io.Reader, found chan<- string) {
	var log strings.Builder
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		fmt.Fprintln(&log, lines.Text())
		if m := listening.FindStringSubmatch(lines.Text()); m != nil {
			select {
			case found <- m[1]:
			default:
			}
		}
	}
	close(found)
	s.logs <- log.String()
}

func (s *server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// stop returns when every thread of the server stands still.
func (s *server) stop() {
	s.t.Helper()
	s.signal(syscall.SIGSTOP)
	eventually(s.t, "the server to stop", func() bool {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", s.cmd.Process.Pid))
		check(s.t, err)
		for _, task := range tasks {
			text, err := os.ReadFile(task)
			if err != nil || !strings.Contains(string(text), ") T ") {
				return false
			}
		}
		return len(tasks) > 0
	})
}

func (s *server) kill() {
	if s.cmd.ProcessState != nil {
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// open connects a client that is closed with the test.
func open(t testing.TB, s *server, o Options) *Client {
	t.Helper()
	c, err := tryOpen(s, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if c.Transport() != wantedTransport() {
		t.Fatalf("transport %s, wanted %s", c.Transport(), wantedTransport())
	}
	return c
}

func tryOpen(s *server, o Options) (*Client, error) {
	o.URL = s.url
	if o.Transport == "" {
		o.Transport = wantedTransport()
	}
	if o.Timeout == 0 {
		o.Timeout = patience
	}
	return Open(context.Background(), o)
}

func allocate(t testing.TB, c *Client, o AllocateOptions) []Allocation {
	t.Helper()
	lent, err := c.Allocate(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return lent
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantError checks that err is target under errors.Is and has the words that help.
func wantError(t testing.TB, err, target error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("an error was due")
	}
	if target != nil && !errors.Is(err, target) {
		t.Fatalf("%v is not: %v", err, target)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Fatalf("%q is not in: %v", word, err)
		}
	}
}

// eventually waits for what needs no particular time.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
