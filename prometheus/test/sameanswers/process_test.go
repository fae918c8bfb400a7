// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package sameanswers

import (
	"io"
	"net/rpc"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/maas-memory/maas/go/maastest"
	"github.com/stretchr/testify/require"
)

// process is a Subject in a child of its own, which can be killed.
type process struct {
	*rpc.Client
	cmd   *exec.Cmd
	log   *maastest.Log
	ended chan struct{} // Closed once the process has ended.
}

// stream is the parent's end of stdio.
type stream struct {
	io.Reader
	io.WriteCloser
}

// startProcess starts a child and opens the database in it. The process always ends with the test, and its log is shown
// if the test fails.
func startProcess(t *testing.T, config ChildConfig) (*process, error) {
	t.Helper()
	p, opened := beginProcess(t, config)
	if err := (<-opened.Done).Error; err != nil {
		p.kill()
		return nil, err
	}
	return p, nil
}

// beginProcess is startProcess without waiting until the database is open: a standby's is not open as long as its leader
// lives.
func beginProcess(t *testing.T, config ChildConfig) (p *process, opened *rpc.Call) {
	t.Helper()
	p = &process{cmd: exec.Command(os.Args[0]), log: new(maastest.Log), ended: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), childVariable+"=1")
	p.cmd.Stderr = p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdin, err := p.cmd.StdinPipe()
	require.NoError(t, err)
	// Not StdoutPipe: Wait would close it before the last answer is read.
	stdout, theirs, err := os.Pipe()
	require.NoError(t, err)
	p.cmd.Stdout = theirs
	require.NoError(t, p.cmd.Start())
	require.NoError(t, theirs.Close())
	go func() {
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	p.Client = rpc.NewClient(stream{stdout, stdin})
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("log of a child:\n%s", p.log)
		}
	})
	return p, p.Go("child.Open", config, new(none), make(chan *rpc.Call, 1))
}

// kill is SIGKILL.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
	_ = p.Client.Close()
}

func (p *process) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

func (p *process) Feed(upTo int) error {
	return p.Call("child.Feed", upTo, new(none))
}

func (p *process) Answers(queries []Query) (answers []Answer, err error) {
	err = p.Call("child.Answers", queries, &answers)
	return answers, err
}

func (p *process) Samples(from int64) (samples Digest, err error) {
	err = p.Call("child.Samples", from, &samples)
	return samples, err
}

func (p *process) Blocks() (blocks BlocksDigest, err error) {
	err = p.Call("child.Blocks", none{}, &blocks)
	return blocks, err
}

func (p *process) metrics(t *testing.T) (sums map[string]float64) {
	t.Helper()
	require.NoError(t, p.Call("child.Metrics", none{}, &sums))
	return sums
}

// Close ends the database as a shutdown does, and then the process.
func (p *process) Close() error {
	err := p.Call("child.Close", none{}, new(none))
	p.kill()
	return err
}
