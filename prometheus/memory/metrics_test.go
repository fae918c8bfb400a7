// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"math"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/test/shared"
)

// released is what dashboards and alerts rely on, of one metric.
type released struct {
	Labels []string `json:"labels"`
	Type   string   `json:"type"`
}

// collectors is a registry that only remembers.
type collectors struct {
	prometheus.Registerer
	all []prometheus.Collector
}

func (c *collectors) MustRegister(all ...prometheus.Collector) { c.all = append(c.all, all...) }

var descText = regexp.MustCompile(`fqName: "([^"]*)".*variableLabels: \{([^}]*)\}`)

func typeOf(c prometheus.Collector) string {
	switch c.(type) {
	case *prometheus.CounterVec:
		return "counter"
	case *prometheus.HistogramVec:
		return "histogram"
	case prometheus.Gauge: // A Gauge is a Counter, too.
		return "gauge"
	case prometheus.Counter:
		return "counter"
	}
	return "gauge"
}

func metricsNow(t *testing.T) map[string]released {
	var registry collectors
	NewMetrics(&registry)
	now := map[string]released{}
	for _, c := range registry.all {
		ch := make(chan *prometheus.Desc, 1)
		c.Describe(ch)
		found := descText.FindStringSubmatch((<-ch).String())
		require.NotNil(t, found)
		labels := strings.FieldsFunc(found[2], func(r rune) bool { return r == ',' })
		now[found[1]] = released{Labels: labels, Type: typeOf(c)}
	}
	return now
}

func TestMetrics__those_of_releases_are_there(t *testing.T) {
	shared.Released(t, "prometheus-metrics.json", metricsNow(t))
}

func TestMetrics__are_there_at_0(t *testing.T) {
	m := NewMetrics(nil)
	require.Equal(t, 6, testutil.CollectAndCount(m.BytesRead))
	require.Equal(t, 6, testutil.CollectAndCount(m.BytesWritten))
	require.Equal(t, 6, testutil.CollectAndCount(m.Restarts))
}

func TestMetrics__errors_of_an_operation_are_there_before_the_first_one(t *testing.T) {
	server := maastest.Start(t)
	m := watched(t, Options{URL: server.URL, Owner: "me"}) // Nobody else calls the server.
	before := testutil.CollectAndCount(m.Metrics().Errors)
	require.NoError(t, health(m))
	require.Equal(t, before+1, testutil.CollectAndCount(m.Metrics().Errors))
	require.Zero(t, testutil.ToFloat64(m.Metrics().Errors.WithLabelValues("health")))
}

func TestMetrics__a_clock_that_is_set_back_hides_no_lag(t *testing.T) {
	m := NewMetrics(nil)
	require.Zero(t, m.lag())
	m.CaughtUp(shared.BeforeStep(time.Minute))
	require.InDelta(t, 60, m.lag(), 30)
	m.Follows(true)
	require.Equal(t, math.Inf(1), m.Behind())
	m.Replayed(shared.BeforeStep(time.Minute))
	require.InDelta(t, 60, m.Behind(), 30)
	m.Replayed(time.Now().Add(-time.Minute).Round(0)) // The monotonic clock stood still, as while a host sleeps.
	require.InDelta(t, 60, m.Behind(), 30)
	m.Follows(false)
	require.Zero(t, m.Behind())
}

func TestMetrics__say_whose_memory_is_used(t *testing.T) {
	server := maastest.Start(t)
	for mode, required := range map[string]bool{"mirror": false, "remote": true} {
		o := Options{URL: server.URL, Owner: "me-" + mode, Dir: t.TempDir(), Required: required}
		for _, epoch := range []string{"1", "2"} {
			m := opened(t, o)
			require.Equal(t, 1, testutil.CollectAndCount(m.Metrics().Info))
			require.Equal(t, 1.0, testutil.ToFloat64(m.Metrics().Info.WithLabelValues("me-"+mode, mode, epoch)))
			require.NoError(t, m.Close())
		}
	}
}
