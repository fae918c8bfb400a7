// SPDX-License-Identifier: Apache-2.0

// TLS: what is refused and in which words, and files that change while requests go on.

package maas

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/maas-memory/maas/go/maastest"
)

// authority is a CA of a test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t, file: filepath.Join(t.TempDir(), name+".pem")}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	check(t, err)
	a.key = key
	a.cert, err = x509.ParseCertificate(der)
	check(t, err)
	check(t, os.WriteFile(a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return a
}

// make returns a certificate and its key, in PEM; change may be nil.
func (a *authority) make(name string, change func(*x509.Certificate)) (cert, key []byte) {
	a.t.Helper()
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(a.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, own.Public(), a.key)
	check(a.t, err)
	private, err := x509.MarshalPKCS8PrivateKey(own)
	check(a.t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
}

func (a *authority) pair(name string, change func(*x509.Certificate)) tls.Certificate {
	a.t.Helper()
	pair, err := tls.X509KeyPair(a.make(name, change))
	check(a.t, err)
	return pair
}

// replace puts another file in the place of path, in one step.
func replace(t *testing.T, path string, text []byte) {
	t.Helper()
	check(t, os.WriteFile(path+".new", text, 0o600))
	check(t, os.Rename(path+".new", path))
}

// secured answers as maasd does, over TLS, and remembers whose the connections were.
type secured struct {
	*httptest.Server
	mu     sync.Mutex
	seen   map[string]int
	config *tls.Config
}

func newSecured(t *testing.T, config *tls.Config) *secured {
	t.Helper()
	if maastest.Transport() != TransportHTTP {
		t.Skip("the same over any transport")
	}
	s := &secured{seen: map[string]int{}, config: config}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		for _, cert := range r.TLS.PeerCertificates[:min(1, len(r.TLS.PeerCertificates))] {
			s.seen[cert.Subject.CommonName]++
		}
		s.mu.Unlock()
		fmt.Fprint(w, healthText)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that have to fail
	s.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.config, nil
	}, Certificates: config.Certificates}
	s.StartTLS()
	t.Cleanup(s.Close)
	s.URL = strings.Replace(s.URL, "127.0.0.1", "localhost", 1)
	return s
}

func (s *secured) use(config *tls.Config) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.config = config
}

func (s *secured) saw(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[name]
}

func openAt(t *testing.T, url string, o Options) (*Client, error) {
	t.Helper()
	o.URL, o.Transport, o.Timeout = url, TransportHTTP, maastest.Patience
	c, err := Open(t.Context(), o)
	if err == nil {
		t.Cleanup(func() { _ = c.Close() })
	}
	return c, err
}

func pool(authorities ...*authority) *x509.CertPool {
	all := x509.NewCertPool()
	for _, a := range authorities {
		all.AddCert(a.cert)
	}
	return all
}

// Over RDMA libmaas has the files, too.
func TestTLS__maasd_and_a_certificate(t *testing.T) {
	ca, foreign := newAuthority(t, "ca"), newAuthority(t, "foreign")
	dir := t.TempDir()
	put := func(name string, cert, key []byte) (certFile, keyFile string) {
		certFile, keyFile = filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
		replace(t, certFile, cert)
		replace(t, keyFile, key)
		return certFile, keyFile
	}
	cert, key := ca.make("localhost", func(c *x509.Certificate) {
		c.IPAddresses = []net.IP{net.ParseIP("127.0.0.1"), net.ParseIP(os.Getenv("SOFTROCE_ADDR"))}
		if c.IPAddresses[1] == nil {
			c.IPAddresses = c.IPAddresses[:1]
		}
	})
	serverCert, serverKey := put("server", cert, key)
	principals := filepath.Join(dir, "principals")
	replace(t, principals, []byte("me cert=me.example owner=me\n"))
	s := maastest.Start(t, "--max-pool-size", "64MiB", "--tls-cert", serverCert, "--tls-key", serverKey, "--tls-client-ca", ca.file, "--auth-file", principals)
	o := Options{Name: "me", CAFile: ca.file}
	cert, key = foreign.make("me.example", nil)
	o.CertFile, o.KeyFile = put("stranger", cert, key)
	_, err := tryOpen(s, o)
	wantError(t, err, ErrToken, "no CA of --tls-client-ca")
	cert, key = ca.make("me.example", nil)
	o.CertFile, o.KeyFile = put("me", cert, key)
	c := open(t, s, o)
	lent := allocate(t, c, AllocateOptions{Size: 100000})
	want, got := make([]byte, 100000), make([]byte, 100000)
	_, _ = rand.Read(want)
	check(t, c.Write(t.Context(), lent[0].ID, 0, want))
	check(t, c.Read(t.Context(), lent[0].ID, 0, got))
	if !bytes.Equal(got, want) {
		t.Fatal("other bytes")
	}
}

func TestTLS__goes_through(t *testing.T) {
	ca := newAuthority(t, "ca")
	cert, key := ca.make("team", nil)
	both := filepath.Join(t.TempDir(), "both.pem")
	replace(t, both, append(cert, key...))
	s := newSecured(t, &tls.Config{
		Certificates: []tls.Certificate{ca.pair("localhost", nil)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool(ca),
	})
	_, err := openAt(t, s.URL, Options{CAFile: ca.file, CertFile: both})
	check(t, err)
	pair, err := tls.X509KeyPair(cert, key)
	check(t, err)
	_, err = openAt(t, s.URL, Options{TLS: &tls.Config{RootCAs: pool(ca), Certificates: []tls.Certificate{pair}}})
	check(t, err)
	if s.saw("team") != 2 {
		t.Fatalf("%v", s.seen)
	}
	named := newSecured(t, &tls.Config{Certificates: []tls.Certificate{ca.pair("memory.example", nil)}})
	_, err = openAt(t, named.URL, Options{CAFile: ca.file, ServerName: "memory.example"})
	check(t, err)
}

func TestTLS__a_certificate_is_shown_whatever_CAs_the_server_names(t *testing.T) {
	ca, foreign := newAuthority(t, "ca"), newAuthority(t, "foreign")
	cert, key := foreign.make("stranger", nil)
	both := filepath.Join(t.TempDir(), "both.pem")
	replace(t, both, append(cert, key...))
	s := newSecured(t, &tls.Config{Certificates: []tls.Certificate{ca.pair("localhost", nil)}, ClientAuth: tls.RequestClientCert, ClientCAs: pool(ca)})
	_, err := openAt(t, s.URL, Options{CAFile: ca.file, CertFile: both})
	check(t, err)
	if s.saw("stranger") != 1 {
		t.Fatalf("%v", s.seen)
	}
}

func TestTLS__refused_in_words_that_help(t *testing.T) {
	ca, other := newAuthority(t, "ca"), newAuthority(t, "other")
	serve := func(a *authority, name string, change func(*x509.Certificate)) string {
		return newSecured(t, &tls.Config{Certificates: []tls.Certificate{a.pair(name, change)}}).URL
	}
	url := serve(ca, "localhost", nil)
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	old := newSecured(t, &tls.Config{Certificates: []tls.Certificate{ca.pair("localhost", nil)}, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10})
	asking := newSecured(t, &tls.Config{
		Certificates: []tls.Certificate{ca.pair("localhost", nil)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool(ca),
	})
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer mute.Close()
	for _, row := range []struct {
		url   string
		ca    string
		words []string
	}{
		{url, "", []string{"is from a CA that this machine does not know", "Options.CAFile"}},
		{url, other.file, []string{"is not from a CA in the CA file"}},
		{serve(ca, "elsewhere", nil), ca.file, []string{"is not for localhost", "Options.ServerName"}},
		{serve(ca, "localhost", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), ca.file, []string{"has expired", "clock"}},
		{serve(ca, "localhost", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }), ca.file, []string{"is not valid yet", "clock"}},
		{serve(ca, "localhost", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), ca.file, []string{"does not prove", "purpose"}},
		{strings.Replace(plain.URL, "http", "https", 1), ca.file, []string{"does not speak TLS", "use http://127.0.0.1"}},
		{old.URL, ca.file, []string{"TLS 1.2 or 1.3", "maas doctor"}},
		{asking.URL, ca.file, []string{"accept the client's certificate", "maas doctor"}},
	} {
		_, err := openAt(t, row.url, Options{CAFile: row.ca})
		wantError(t, err, nil, row.words...)
	}
}

// A server that speaks TLS closes what does not, without a word or with an alert.
func TestTLS__a_plain_URL_is_told(t *testing.T) {
	ca := newAuthority(t, "ca")
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{ca.pair("localhost", nil)}})
	check(t, err)
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_ = conn.(*tls.Conn).Handshake()
				conn.(*tls.Conn).NetConn().Close()
			}()
		}
	}()
	_, err = openAt(t, "http://"+listener.Addr().String(), Options{})
	wantError(t, err, nil, "speaks TLS: use https://"+listener.Addr().String())
}

func TestTLS__options_and_files_that_cannot_be(t *testing.T) {
	ca := newAuthority(t, "ca")
	dir := t.TempDir()
	put := func(name string, text []byte, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		check(t, os.WriteFile(path, text, 0o600))
		check(t, os.Chmod(path, mode))
		return path
	}
	one, oneKey := ca.make("one", nil)
	_, twoKey := ca.make("two", nil)
	cert, key := put("one.pem", one, 0o644), put("one.key", oneKey, 0o600)
	const url = "https://localhost:1"
	for _, row := range []struct {
		url   string
		o     Options
		words string
	}{
		{"http://localhost:1", Options{CAFile: ca.file}, "are for https://"},
		{"unix:/run/maas.sock", Options{TLS: &tls.Config{}}, "are for https://"},
		{url, Options{TLS: &tls.Config{}, CAFile: ca.file}, "give one or the others"},
		{url, Options{TLS: &tls.Config{InsecureSkipVerify: true}}, "always checked"},
		{url, Options{KeyFile: key}, "without a CertFile"},
		{url, Options{CAFile: put("empty", nil, 0o644)}, "no certificate in it"},
		{url, Options{CAFile: filepath.Join(dir, "none")}, "no such file"},
		{url, Options{CAFile: dir}, "not a regular file"},
		{url, Options{CertFile: cert, KeyFile: put("open.key", oneKey, 0o644)}, "chmod 0640"},
		{url, Options{CertFile: cert, KeyFile: put("two.key", twoKey, 0o600)}, "is not that of the certificate in"},
		{url, Options{CertFile: cert, KeyFile: put("locked.key", []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"), 0o600)}, "passphrase"},
		{url, Options{CertFile: cert}, "no other key file is given, and the certificate file " + cert + " may be read by others"},
	} {
		_, err := openAt(t, row.url, row.o)
		wantError(t, err, nil, row.words)
		if checked := row.o.CAFile != "" && row.o.TLS == nil && row.url == url; checked {
			wantError(t, err, ErrTLSFiles)
		}
	}
}

func TestTLS__files_change_under_load(t *testing.T) {
	ca, next := newAuthority(t, "ca"), newAuthority(t, "next")
	dir := t.TempDir()
	cert, key, cas := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), filepath.Join(dir, "ca.crt")
	oldCert, oldKey := ca.make("old", nil)
	newCert, newKey := ca.make("new", nil)
	replace(t, cert, oldCert)
	replace(t, key, oldKey)
	first, err := os.ReadFile(ca.file)
	check(t, err)
	second, err := os.ReadFile(next.file)
	check(t, err)
	replace(t, cas, first)
	config := &tls.Config{Certificates: []tls.Certificate{ca.pair("localhost", nil)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool(ca)}
	s := newSecured(t, config)
	c, err := openAt(t, s.URL, Options{CAFile: cas, CertFile: cert, KeyFile: key})
	check(t, err)
	stop := make(chan struct{})
	var asking sync.WaitGroup
	for range 4 {
		asking.Add(1)
		go func() {
			defer asking.Done()
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := c.Health(t.Context()); err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	replace(t, cert, newCert) // for a moment the pair does not fit
	time.Sleep(lookEvery + 200*time.Millisecond)
	replace(t, key, newKey)
	maastest.Eventually(t, "the new certificate is used", func() bool { return s.saw("new") > 0 })
	replace(t, cas, append(first, second...))
	time.Sleep(lookEvery + 200*time.Millisecond)
	renewed := config.Clone()
	renewed.Certificates = []tls.Certificate{next.pair("localhost", nil)}
	s.use(renewed)
	s.CloseClientConnections()
	replace(t, cas, second)
	time.Sleep(lookEvery + 200*time.Millisecond)
	close(stop)
	asking.Wait()
	before := s.saw("old")
	_, err = c.Health(t.Context())
	check(t, err)
	if s.saw("old") != before {
		t.Fatal("the old certificate is still used")
	}
}

// The server that no longer knows a certificate makes the client look at once, and not a second later.
func TestTLS__refused_certificate_was_renewed(t *testing.T) {
	ca, next := newAuthority(t, "ca"), newAuthority(t, "next")
	dir := t.TempDir()
	both := filepath.Join(dir, "both.pem")
	oldCert, oldKey := ca.make("old", nil)
	newCert, newKey := next.make("new", nil)
	replace(t, both, append(oldCert, oldKey...))
	config := &tls.Config{Certificates: []tls.Certificate{ca.pair("localhost", nil)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool(ca)}
	s := newSecured(t, config)
	c, err := openAt(t, s.URL, Options{CAFile: ca.file, CertFile: both})
	check(t, err)
	renewed := config.Clone()
	renewed.ClientCAs = pool(next)
	s.use(renewed)
	s.CloseClientConnections()
	replace(t, both, append(newCert, newKey...))
	c.sender.files.look = time.Now().Add(time.Hour)
	_, err = c.Health(t.Context())
	check(t, err)
	if s.saw("new") != 1 {
		t.Fatalf("%v", s.seen)
	}
}
