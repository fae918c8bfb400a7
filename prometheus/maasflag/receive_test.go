// SPDX-License-Identifier: Apache-2.0

package maasflag

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
)

// request is a request to a receiver that is under way.
type request struct {
	begun, goOn chan struct{}
	answer      chan *httptest.ResponseRecorder
}

// send sends a request to a handler that waits, then appends to the node's log, and then answers.
func send(t *testing.T, n *Node, record string, answer func(http.ResponseWriter)) request {
	r := request{make(chan struct{}), make(chan struct{}), make(chan *httptest.ResponseRecorder, 1)}
	log := newLog(t, n.dir)
	handler := n.Receiver(func(w http.ResponseWriter, _ *http.Request) {
		close(r.begun)
		<-r.goOn
		assert.NoError(t, log.Log([]byte(record)))
		assert.NoError(t, log.Close())
		answer(w)
	})
	go func() {
		w := httptest.NewRecorder()
		handler(w, httptest.NewRequest(http.MethodPost, "/api/v1/write", nil))
		r.answer <- w
	}()
	return r
}

// written is the answer of remote write.
func written(w http.ResponseWriter) {
	w.Header().Set("X-Prometheus-Remote-Write-Samples-Written", "1")
	w.WriteHeader(http.StatusNoContent)
}

// ask is a request with which nothing else happens meanwhile.
func ask(n *Node, answer http.HandlerFunc) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	n.Receiver(answer)(w, httptest.NewRequest(http.MethodPost, "/api/v1/write", nil))
	return w
}

func TestReceiver__who_leads_answers_as_the_handler_does(t *testing.T) {
	n := leads(t, start(t))
	defer n.Close()
	w := ask(n, func(w http.ResponseWriter, _ *http.Request) { written(w) })
	require.Equal(t, http.StatusNoContent, w.Code)
	require.Equal(t, "1", w.Header().Get("X-Prometheus-Remote-Write-Samples-Written"))
	w = ask(n, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "too old", http.StatusBadRequest) })
	require.Equal(t, http.StatusBadRequest, w.Code)
	require.Equal(t, "too old\n", w.Body.String())
	w = ask(n, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("taken")) })
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, "taken", w.Body.String())
	require.Equal(t, http.StatusOK, ask(n, func(http.ResponseWriter, *http.Request) {}).Code)
}

func TestReceiver__a_hand_over_waits_for_what_is_under_way_and_takes_nothing_more(t *testing.T) {
	server := start(t)
	n := leads(t, server)
	under := send(t, n, "under way", written)
	<-under.begun
	handedOver := make(chan struct{})
	go func() {
		n.HandOver()
		close(handedOver)
	}()
	maastest.Eventually(t, "further requests are refused", func() bool {
		return ask(n, func(w http.ResponseWriter, _ *http.Request) { written(w) }).Code == http.StatusServiceUnavailable
	})
	close(under.goOn)
	require.Equal(t, http.StatusNoContent, (<-under.answer).Code)
	<-handedOver
	require.Contains(t, string(successor(t, server)), "under way")
}

func TestReceiver__what_comes_too_late_for_the_successor_is_not_acknowledged(t *testing.T) {
	for name, answer := range map[string]func(http.ResponseWriter){
		"written":  written,
		"in part":  func(w http.ResponseWriter) { http.Error(w, "a part is too old", http.StatusBadRequest) },
		"no words": func(http.ResponseWriter) {},
	} {
		t.Run(name, func(t *testing.T) {
			server := start(t)
			n := leads(t, server)
			late := send(t, n, "too late", answer)
			<-late.begun
			n.HandOver()
			close(late.goOn)
			w := <-late.answer
			require.Equal(t, http.StatusServiceUnavailable, w.Code)
			require.Empty(t, w.Header().Get("X-Prometheus-Remote-Write-Samples-Written"))
			require.NotContains(t, w.Body.String(), "too old")
			require.NotContains(t, string(successor(t, server)), "too late")
		})
	}
}

func TestReceiver__without_a_standby_nothing_changes(t *testing.T) {
	n := New(at(start(t)), t.TempDir(), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	w := httptest.NewRecorder()
	n.Receiver(func(got http.ResponseWriter, _ *http.Request) { require.Equal(t, w, got) })(w, nil)
}

// successor is the log of the node that leads next.
func successor(t *testing.T, server string) []byte {
	n, _ := newNode(t, server)
	require.NoError(t, n.Open(nil, false, func(_ prometheus.Registerer, a *Attachment) error { return replay(a) }))
	defer n.Close()
	var all [][]byte
	for _, name := range maastest.Must(filepath.Glob(filepath.Join(n.dir, "wal/0*")))(t) {
		all = append(all, maastest.Must(os.ReadFile(name))(t))
	}
	return bytes.Join(all, nil)
}
