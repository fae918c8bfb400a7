// SPDX-License-Identifier: Apache-2.0

package maasflag

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/go/maastest"
)

func httpConfig(t *testing.T, text string) *Config {
	path := filepath.Join(t.TempDir(), "http.yml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return &Config{HTTPConfigFile: path}
}

func TestProof__of_a_file_or_inline(t *testing.T) {
	o := maastest.Must((&Config{}).proof())(t)
	require.Equal(t, maas.Options{}, o)

	for _, text := range []string{
		"authorization:\n  credentials_file: token\n",
		"authorization:\n  type: bearer\n  credentials_file: token\n",
		"authorization:\n  credentials_file: token\nfollow_redirects: true\n",
		"authorization:\n  credentials_file: token\ntls_config: {}\n",
	} {
		c := httpConfig(t, text)
		o, err := c.proof()
		require.NoError(t, err, text)
		require.Equal(t, maas.Options{TokenFile: filepath.Join(filepath.Dir(c.HTTPConfigFile), "token")}, o)
	}

	c := httpConfig(t, "authorization:\n  credentials: mt_one\n")
	o = maastest.Must(c.proof())(t)
	require.Empty(t, o.TokenFile)
	require.NoError(t, os.WriteFile(c.HTTPConfigFile, []byte("authorization: {credentials: mt_two}\n"), 0o600))
	require.Equal(t, "mt_two", maastest.Must(o.Token())(t))
}

// Files work over both transports; what only Prometheus' library does works over HTTP.
func TestProof__of_TLS(t *testing.T) {
	c := httpConfig(t, "tls_config: {ca_file: ca.pem, cert_file: tls.crt, key_file: /tls.key, server_name: memory}\n")
	o := maastest.Must(c.proof())(t)
	dir := filepath.Dir(c.HTTPConfigFile)
	require.Equal(t, maas.Options{CAFile: filepath.Join(dir, "ca.pem"), CertFile: filepath.Join(dir, "tls.crt"), KeyFile: "/tls.key", ServerName: "memory"}, o)

	o = maastest.Must(httpConfig(t, "tls_config: {min_version: TLS13, server_name: memory}\n").proof())(t)
	require.Empty(t, o.ServerName)
	require.Equal(t, uint16(tls.VersionTLS13), o.TLS.MinVersion)
	require.Equal(t, "memory", o.TLS.ServerName)
	o.URL, o.Transport = "https://memory:3000", "http"
	require.NoError(t, o.Check())
	o.URL = "http://memory:3000"
	require.ErrorContains(t, o.Check(), "are for https://")
}

func TestProof__anything_else_is_refused(t *testing.T) {
	for text, why := range map[string]string{
		"":                                "no credentials",
		"authorization: {}\n":             "no credentials",
		"authorization: {type: Bearer}\n": "no credentials",
		"authorization: {credentials: a, credentials_file: b}\n":  "at most one",
		"authorization: {type: Digest, credentials: mt_secret}\n": "Bearer alone",
		"tls_config: {}\n":                                                            "no credentials",
		"tls_config: {insecure_skip_verify: true}\n":                                  "always checked",
		"tls_config: {cert_file: f}\n":                                                "key",
		"tls_config: {ca: mt_secret}\n":                                               "CA",
		"authorization: {credentials: mt_secret}\nproxy_url: http://a\n":              "without a proxy",
		"authorization: {credentials: mt_secret}\nfollow_redirects: false\n":          "only authorization and tls_config",
		"authorization: {credentials: mt_secret}\nhttp_headers: {A: {values: [b]}}\n": "only authorization",
		"basic_auth: {username: a, password: mt_secret}\n":                            "only authorization",
		"authorization: {token: mt_secret}\n":                                         "token",
		"authorization: mt_secret_in_the_wrong_place\n":                               "cannot unmarshal",
	} {
		c := httpConfig(t, text)
		_, err := c.proof()
		require.ErrorContains(t, err, why, text)
		require.ErrorContains(t, err, c.HTTPConfigFile)
		require.NotContains(t, err.Error(), "mt_", text)
	}
	require.ErrorContains(t, maastest.Err((&Config{HTTPConfigFile: "/none"}).proof()), "http-config-file=/none")
}

// A mirror does without a server that is down, but not with a token that the server does not know.
func TestOpen__a_wrong_token_ends_the_start(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer mt_other" {
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(`{"error":{"code":"forbidden","message":"not this name"}}`))
			return
		}
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte(`{"error":{"code":"unauthenticated","message":"was it replaced?"}}`))
	}))
	defer server.Close()
	open := func(text string) error {
		c := at(server.URL)
		c.HTTPConfigFile = httpConfig(t, text).HTTPConfigFile
		_, err := attach(c, t.TempDir())
		return err
	}
	require.ErrorContains(t, open("authorization: {credentials: mt_wrong}\n"), "was it replaced?")
	require.ErrorContains(t, open("authorization: {credentials: mt_other}\n"), "not this name")
	require.ErrorContains(t, open("authorization: {credentials_file: none}\n"), "no such file")
	require.ErrorContains(t, open("tls_config: {}\n"), "no credentials")
}

// Two principals may use the name: a standby with the one's token takes over from a leader with the other's.
func TestNode__takes_over_from_another_principal(t *testing.T) {
	principals := filepath.Join(t.TempDir(), "principals")
	text := ""
	for name, rights := range map[string]string{"a": "owner=me,me@follow", "b": "owner=me,me@follow", "c": "read=me"} {
		text += fmt.Sprintf("%s token=sha256:%x %s\n", name, sha256.Sum256([]byte("mt_"+name)), rights)
	}
	require.NoError(t, os.WriteFile(principals, []byte(text), 0o600))
	server := start(t, "--auth-file", principals)
	with := func(name string) *Node {
		n, _ := newNode(t, server)
		n.c.HTTPConfigFile = httpConfig(t, "authorization: {credentials_file: token}\n").HTTPConfigFile
		token := filepath.Join(filepath.Dir(n.c.HTTPConfigFile), "token")
		require.NoError(t, os.WriteFile(token, []byte("mt_"+name+"\n"), 0o600))
		return n
	}
	leader := with("a")
	lead(t, leader)
	n := with("b")
	require.NoError(t, n.Open(nil, false, func(_ prometheus.Registerer, a *Attachment) error {
		require.NotNil(t, a.FollowedLog())
		time.AfterFunc(100*time.Millisecond, leader.Close)
		return replay(a)
	}))
	require.Empty(t, n.NotReady())
	require.Equal(t, segment(t, leader.dir), segment(t, n.dir))
	n.Close()
	for name, why := range map[string]string{"c": "forbidden", "d": "unauthenticated"} {
		err := with(name).Open(nil, false, func(prometheus.Registerer, *Attachment) error { return nil })
		require.ErrorContains(t, err, why)
	}
}
