// SPDX-License-Identifier: Apache-2.0

// TLS: what is refused and in which words, and files that change while requests go on.

package maas

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/maas-memory/maas/go/maastest"
)

// authority is a CA of a test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	text []byte // The certificate, in PEM.
	file string // The file with it.
}

func newAuthority(t *testing.T, name string) *authority {
	a := &authority{t: t}
	a.key = maastest.Must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der := maastest.Must(x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key))(t)
	a.cert = maastest.Must(x509.ParseCertificate(der))(t)
	a.text = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	a.file = put(t, a.text, 0o600)
	return a
}

// make returns a certificate and its key, in PEM; change may be nil.
func (a *authority) make(name string, change func(*x509.Certificate)) (cert, key []byte) {
	own := maastest.Must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(a.t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(template)
	}
	der := maastest.Must(x509.CreateCertificate(rand.Reader, template, a.cert, own.Public(), a.key))(a.t)
	private := maastest.Must(x509.MarshalPKCS8PrivateKey(own))(a.t)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
}

func (a *authority) pair(name string, change func(*x509.Certificate)) tls.Certificate {
	return maastest.Must(tls.X509KeyPair(a.make(name, change)))(a.t)
}

// replace puts another file in the place of path, in one step.
func replace(t *testing.T, path string, text []byte, mode os.FileMode) {
	check(t, os.WriteFile(path+".new", text, 0o600))
	check(t, os.Chmod(path+".new", mode))
	check(t, os.Rename(path+".new", path))
}

// put makes a file in a directory of its own.
func put(t *testing.T, text []byte, mode os.FileMode) (path string) {
	path = filepath.Join(t.TempDir(), "file")
	replace(t, path, text, mode)
	return path
}

// makeFile is make, with both in one file.
func (a *authority) makeFile(name string) (path string) {
	cert, key := a.make(name, nil)
	return put(a.t, append(cert, key...), 0o600)
}

// config is that of a server whose certificate is from this authority; mutual also asks its clients for one.
func (a *authority) config(name string, change func(*x509.Certificate)) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{a.pair(name, change)}}
}

func (a *authority) mutual() *tls.Config {
	config := a.config("localhost", nil)
	config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, pool(a)
	return config
}

// secured answers as maasd does, over TLS, and remembers whose the connections were.
type secured struct {
	*httptest.Server
	config atomic.Pointer[tls.Config]
	mu     sync.Mutex
	seen   map[string]int
}

func newSecured(t *testing.T, config *tls.Config) *secured {
	overHTTP(t)
	s := &secured{seen: map[string]int{}}
	s.config.Store(config)
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
		return s.config.Load(), nil
	}, Certificates: config.Certificates}
	s.StartTLS()
	t.Cleanup(s.Close)
	s.URL = strings.Replace(s.URL, "127.0.0.1", "localhost", 1)
	return s
}

// use is for all connections from now on.
func (s *secured) use(config *tls.Config) {
	s.config.Store(config)
	s.CloseClientConnections()
}

func (s *secured) saw(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[name]
}

func pool(a *authority) *x509.CertPool {
	only := x509.NewCertPool()
	only.AddCert(a.cert)
	return only
}

// Over RDMA libmaas has the files, too.
func TestTLS__maasd_and_a_certificate(t *testing.T) {
	ca, foreign := newAuthority(t, "ca"), newAuthority(t, "foreign")
	files := func(cert, key []byte) (certFile, keyFile string) { return put(t, cert, 0o600), put(t, key, 0o600) }
	cert, key := files(ca.make("localhost", func(c *x509.Certificate) {
		c.IPAddresses = []net.IP{net.ParseIP("127.0.0.1"), net.ParseIP(os.Getenv("SOFTROCE_ADDR"))}
		if c.IPAddresses[1] == nil {
			c.IPAddresses = c.IPAddresses[:1]
		}
	}))
	principals := put(t, []byte("me cert=me.example owner=me\n"), 0o600)
	s := maastest.Start(t, "--max-pool-size", "64MiB", "--tls-cert", cert, "--tls-key", key, "--tls-client-ca", ca.file, "--auth-file", principals)
	o := Options{Name: "me", CAFile: ca.file}
	o.CertFile, o.KeyFile = files(foreign.make("me.example", nil))
	wantError(t, maastest.Err(tryOpen(t, s, o)), ErrToken, "no CA of --tls-client-ca")
	o.CertFile, o.KeyFile = files(ca.make("me.example", nil))
	check(t, roundTrip(t.Context(), open(t, s, o), 1))
}

func TestTLS__goes_through(t *testing.T) {
	ca := newAuthority(t, "ca")
	s := newSecured(t, ca.mutual())
	check(t, maastest.Err(openAt(t, s.URL, Options{CAFile: ca.file, CertFile: ca.makeFile("team")})))
	_, err := openAt(t, s.URL, Options{TLS: &tls.Config{RootCAs: pool(ca), Certificates: []tls.Certificate{ca.pair("team", nil)}}})
	check(t, err)
	holds(t, s.saw("team") == 2, s.seen)
	named := newSecured(t, ca.config("memory.example", nil))
	check(t, maastest.Err(openAt(t, named.URL, Options{CAFile: ca.file, ServerName: "memory.example"})))
}

func TestTLS__a_certificate_is_shown_whatever_CAs_the_server_names(t *testing.T) {
	ca, foreign := newAuthority(t, "ca"), newAuthority(t, "foreign")
	config := ca.mutual()
	config.ClientAuth = tls.RequestClientCert
	s := newSecured(t, config)
	check(t, maastest.Err(openAt(t, s.URL, Options{CAFile: ca.file, CertFile: foreign.makeFile("stranger")})))
	holds(t, s.saw("stranger") == 1, s.seen)
}

func TestTLS__refused_in_words_that_help(t *testing.T) {
	ca, other := newAuthority(t, "ca"), newAuthority(t, "other")
	serving := func(name string, change func(*x509.Certificate)) string {
		return newSecured(t, ca.config(name, change)).URL
	}
	url := serving("localhost", nil)
	plain := listen(t, http.NotFound)
	old := ca.config("localhost", nil)
	old.MaxVersion, old.MinVersion = tls.VersionTLS11, tls.VersionTLS10
	for _, row := range []struct {
		url   string
		ca    string
		words []string
	}{
		{url, "", []string{"is from a CA that this machine does not know", "Options.CAFile"}},
		{url, other.file, []string{"is not from a CA in the CA file"}},
		{serving("elsewhere", nil), ca.file, []string{"is not for localhost", "Options.ServerName"}},
		{serving("localhost", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), ca.file, []string{"has expired", "clock"}},
		{serving("localhost", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }), ca.file, []string{"is not valid yet", "clock"}},
		{serving("localhost", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), ca.file, []string{"does not prove", "purpose"}},
		{strings.Replace(plain, "http", "https", 1), ca.file, []string{"does not speak TLS", "use http://127.0.0.1"}},
		{newSecured(t, old).URL, ca.file, []string{"TLS 1.2 or 1.3", "maas doctor"}},
		{newSecured(t, ca.mutual()).URL, ca.file, []string{"accept the client's certificate", "maas doctor"}},
	} {
		wantError(t, maastest.Err(openAt(t, row.url, Options{CAFile: row.ca})), nil, row.words...)
	}
}

// A server that speaks TLS closes what does not, without a word or with an alert.
func TestTLS__a_plain_URL_is_told(t *testing.T) {
	ca := newAuthority(t, "ca")
	listener := maastest.Must(tls.Listen("tcp", "127.0.0.1:0", ca.config("localhost", nil)))(t)
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
	_, err := openAt(t, "http://"+listener.Addr().String(), Options{})
	wantError(t, err, nil, "speaks TLS: use https://"+listener.Addr().String())
}

// Looking for the reason takes no longer than the call may.
func TestTLS__a_reason_that_cannot_be_found_in_time(t *testing.T) {
	overHTTP(t)
	listener := maastest.Must(net.Listen("tcp", "127.0.0.1:0"))(t)
	defer listener.Close()
	go func() {
		for tries := 0; ; tries++ {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if tries <= len(naps) { // Later it is silent.
				_, _ = conn.Read(make([]byte, 1000))
				conn.Close()
			}
		}
	}()
	started := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), probeTime/4)
	defer cancel()
	_, err := Open(ctx, Options{URL: listener.Addr().String(), Transport: TransportHTTP})
	wantError(t, err, nil)
	holds(t, time.Since(started) < probeTime, err, "after", time.Since(started))
}

// A connection that cannot be made holds up no other for long, however short the calls are that asked for it.
func TestTLS__handshakes_without_an_answer(t *testing.T) {
	ca := newAuthority(t, "ca")
	config := ca.config("localhost", nil)
	s := newSecured(t, config)
	hangs := make(chan struct{})
	t.Cleanup(func() { close(hangs) })
	c := maastest.Must(openAt(t, s.URL, Options{CAFile: ca.file}))(t)
	s.use(&tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		<-hangs
		return nil, errors.New("too late")
	}})
	for range maxControl {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_, err := c.Health(ctx)
		cancel()
		wantError(t, err, context.DeadlineExceeded)
	}
	started := time.Now()
	wantError(t, maastest.Err(c.Stats(t.Context())), nil, "handshake timeout", "see whether maasd and the network are well")
	holds(t, time.Since(started) < maastest.Patience/2, "it waited for its own timeout")
	s.use(config)
	check(t, maastest.Err(c.Health(t.Context())))
}

func TestTLS__options_and_files_that_cannot_be(t *testing.T) {
	ca := newAuthority(t, "ca")
	one, oneKey := ca.make("one", nil)
	_, twoKey := ca.make("two", nil)
	cert, key, dir := put(t, one, 0o644), put(t, oneKey, 0o600), t.TempDir()
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
		{url, Options{CAFile: put(t, nil, 0o644)}, "no certificate in it"},
		{url, Options{CAFile: filepath.Join(dir, "none")}, "no such file"},
		{url, Options{CAFile: dir}, "not a regular file"},
		{url, Options{CertFile: cert, KeyFile: put(t, oneKey, 0o644)}, "chmod 0640"},
		{url, Options{CertFile: cert, KeyFile: put(t, twoKey, 0o600)}, "is not that of the certificate in"},
		{url, Options{CertFile: cert, KeyFile: put(t, []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"), 0o600)}, "passphrase"},
		{url, Options{CertFile: cert}, "no other key file is given, and the certificate file " + cert + " may be read by others"},
	} {
		_, err := openAt(t, row.url, row.o)
		wantError(t, err, nil, row.words)
		if checked := row.o.CAFile != "" && row.o.TLS == nil && row.url == url; checked {
			wantError(t, err, ErrTLSFiles)
		}
	}
}

// When other files would help and cannot be used, the error says so.
func TestTLS__renewed_file_that_cannot_be(t *testing.T) {
	ca, next := newAuthority(t, "ca"), newAuthority(t, "next")
	cas := put(t, ca.text, 0o600)
	s := newSecured(t, ca.config("localhost", nil))
	c := maastest.Must(openAt(t, s.URL, Options{CAFile: cas}))(t)
	replace(t, cas, nil, 0o600)
	s.use(next.config("localhost", nil))
	wantError(t, maastest.Err(c.Stats(t.Context())), nil, "is not from a CA in the CA file", "no certificate in it can be used")
}

func TestTLS__files_change_under_load(t *testing.T) {
	ca, next := newAuthority(t, "ca"), newAuthority(t, "next")
	oldCert, oldKey := ca.make("old", nil)
	newCert, newKey := ca.make("new", nil)
	cert, key, cas := put(t, oldCert, 0o600), put(t, oldKey, 0o600), put(t, ca.text, 0o600)
	config := ca.mutual()
	s := newSecured(t, config)
	c := maastest.Must(openAt(t, s.URL, Options{CAFile: cas, CertFile: cert, KeyFile: key}))(t)
	end := underLoad(t, 4, c)
	replaced := func(path string, text []byte) {
		replace(t, path, text, 0o600)
		time.Sleep(lookEvery + 200*time.Millisecond)
	}
	replaced(cert, newCert) // for a moment the pair does not fit
	replace(t, key, newKey, 0o600)
	maastest.Eventually(t, "the new certificate is used", func() bool { return s.saw("new") > 0 })
	replaced(cas, slices.Concat(ca.text, next.text))
	renewed := config.Clone()
	renewed.Certificates = []tls.Certificate{next.pair("localhost", nil)}
	s.use(renewed)
	replaced(cas, next.text)
	end()
	before := s.saw("old")
	check(t, maastest.Err(c.Health(t.Context())))
	holds(t, s.saw("old") == before, "the old certificate is still used")
}

// The server that no longer knows a certificate makes the client look at once, and not a second later.
func TestTLS__refused_certificate_was_renewed(t *testing.T) {
	ca, next := newAuthority(t, "ca"), newAuthority(t, "next")
	both := ca.makeFile("old")
	config := ca.mutual()
	s := newSecured(t, config)
	c := maastest.Must(openAt(t, s.URL, Options{CAFile: ca.file, CertFile: both}))(t)
	renewed := config.Clone()
	renewed.ClientCAs = pool(next)
	s.use(renewed)
	check(t, os.Rename(next.makeFile("new"), both))
	c.sender.files.look = time.Now().Add(time.Hour)
	check(t, maastest.Err(c.Health(t.Context())))
	holds(t, s.saw("new") == 1, s.seen)
}
