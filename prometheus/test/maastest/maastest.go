// SPDX-License-Identifier: Apache-2.0

// Package maastest runs a real maasd for tests.
package maastest

import (
	"bufio"
	"cmp"
	"fmt"
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

// Server is a maasd on this machine.
type Server struct {
	URL  string
	t    testing.TB
	args []string
	cmd  *exec.Cmd
}

var listening = regexp.MustCompile(`Listening on (http://\S+)`)

// Binary is the maasd to test with: $MAAS_BIN, or what the development build left.
func Binary(t testing.TB) string {
	if bin := os.Getenv("MAAS_BIN"); bin != "" {
		return bin
	}
	_, file, _, _ := runtime.Caller(0)
	bin := filepath.Join(filepath.Dir(file), "../../../build/dev/daemon/maasd")
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

// Start starts a maasd on a free port; it ends with the test.
func Start(t testing.TB, args ...string) *Server {
	s := &Server{t: t, args: append([]string{"--rdma", "off"}, args...)}
	host := "127.0.0.1"
	if Transport() == "rdma" {
		host = os.Getenv("SOFTROCE_ADDR")
		s.args[1] = "required"
	}
	s.start(host + ":0")
	t.Cleanup(s.Kill)
	return s
}

func (s *Server) start(listen string) {
	s.t.Helper()
	s.cmd = exec.Command(Binary(s.t), append([]string{"--listen", listen}, s.args...)...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
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
	s.t.Fatalf("maasd does not listen: %v", s.cmd.Wait())
}

// Kill ends the server as a crash would.
func (s *Server) Kill() {
	if s.cmd.ProcessState == nil {
		_ = s.cmd.Process.Signal(syscall.SIGCONT)
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	}
}

// Restart starts it again on the same port, after Kill.
func (s *Server) Restart() {
	s.t.Helper()
	s.start(s.URL[len("http://"):])
}

// Pause stops it for a while, as a hanging host would be.
func (s *Server) Pause() {
	s.t.Helper()
	s.signal(syscall.SIGSTOP)
	Eventually(s.t, "maasd stands still", func() bool {
		stats, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", s.cmd.Process.Pid))
		for _, name := range stats {
			if b, err := os.ReadFile(name); err == nil && !strings.Contains(string(b), ") T ") {
				return false
			}
		}
		return true
	})
}

// Resume lets it go on.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// Eventually waits until something holds.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("a minute later still not: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
