// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
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

// Every metric of every release is there, with its type and labels: tests/released. With MAAS_WRITE_RELEASED it writes
// them into that directory.
func TestMetrics__those_of_releases_are_there(t *testing.T) {
	now := metricsNow(t)
	if dir := os.Getenv("MAAS_WRITE_RELEASED"); dir != "" {
		b, err := json.MarshalIndent(now, "", " ")
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "prometheus-metrics.json"), append(b, '\n'), 0o666))
		return
	}
	files, err := filepath.Glob("../../tests/released/*/prometheus-metrics.json")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		var then map[string]released
		require.NoError(t, json.Unmarshal(b, &then))
		require.NotEmpty(t, then)
		for name, want := range then {
			require.Equal(t, want, now[name], "%s, of %s", name, file)
		}
	}
}
