// SPDX-License-Identifier: Apache-2.0

package sameanswers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/timestamp"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
	apiv1 "github.com/prometheus/prometheus/web/api/v1"
)

// Answer is the answer of the HTTP API to a query.
type Answer struct {
	JSON []byte
	Err  string
}

// Answers implements Subject.
func (d *DB) Answers(queries []Query) ([]Answer, error) {
	now := timestamp.Time(endOfStep(d.fed - 1))
	answers := make([]Answer, len(queries))
	for i, q := range queries {
		json, err := d.ask(q, now.Add(-q.Ago))
		if err != nil {
			answers[i].Err = err.Error()
		}
		answers[i].JSON = json
	}
	return answers, nil
}

func (d *DB) ask(q Query, end time.Time) ([]byte, error) {
	if q.About != "" {
		return d.askAbout(q, end)
	}
	var (
		ctx   = context.Background()
		query promql.Query
		err   error
	)
	if q.Span == 0 {
		query, err = d.engine.NewInstantQuery(ctx, d.db, nil, q.Expr, end)
	} else {
		query, err = d.engine.NewRangeQuery(ctx, d.db, nil, q.Expr, end.Add(-q.Span), end, q.Step)
	}
	if err != nil {
		return nil, err
	}
	defer query.Close()
	result := query.Exec(ctx)
	if result.Err != nil {
		return nil, result.Err
	}
	if vector, ok := result.Value.(promql.Vector); ok && !strings.HasPrefix(q.Expr, "sort") {
		// The engine returns some of them in the random order of a map.
		slices.SortFunc(vector, func(a, b promql.Sample) int {
			return labels.Compare(a.Metric, b.Metric)
		})
	}
	response := &apiv1.Response{
		Data: &apiv1.QueryData{ResultType: result.Value.Type(), Result: result.Value},
	}
	annotate(response, q.Expr, result.Warnings)
	// Closing the query hands its points to the next query.
	return encode(response)
}

func encode(response *apiv1.Response) ([]byte, error) {
	response.Status = "success"
	return apiv1.JSONCodec{}.Encode(response)
}

// annotate adds the warnings, which come from a map, in a fixed order.
func annotate(response *apiv1.Response, query string, notes annotations.Annotations) {
	response.Warnings, response.Infos = notes.AsStrings(query, 0, 0)
	slices.Sort(response.Warnings)
	slices.Sort(response.Infos)
}

// askAbout answers a question about series, label names or the values of a label.
func (d *DB) askAbout(q Query, end time.Time) ([]byte, error) {
	matchers, err := parser.NewParser(parser.Options{}).ParseMetricSelector(q.Expr)
	if err != nil {
		return nil, err
	}
	mint, maxt := timestamp.FromTime(end.Add(-q.Span)), timestamp.FromTime(end)
	querier, err := d.db.Querier(mint, maxt)
	if err != nil {
		return nil, err
	}
	defer querier.Close()

	var (
		ctx   = context.Background()
		data  any
		notes annotations.Annotations
	)
	switch q.About {
	case aboutSeries:
		data, notes, err = series(querier, mint, maxt, matchers)
	case aboutLabels:
		data, notes, err = querier.LabelNames(ctx, nil, matchers...)
	default:
		data, notes, err = querier.LabelValues(ctx, q.About, nil, matchers...)
	}
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", q.About, q.Expr, err)
	}
	response := &apiv1.Response{Data: data}
	annotate(response, q.Expr, notes)
	return encode(response)
}

func series(
	q storage.Querier, mint, maxt int64, matchers []*labels.Matcher,
) ([]labels.Labels, annotations.Annotations, error) {
	hints := &storage.SelectHints{Start: mint, End: maxt, Func: "series"}
	set := q.Select(context.Background(), true, hints, matchers...)
	var found []labels.Labels
	for set.Next() {
		found = append(found, set.At().Labels())
	}
	return found, set.Warnings(), set.Err()
}
