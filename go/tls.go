// SPDX-License-Identifier: Apache-2.0

// TLS: whom a client trusts and whose it is, from files that are read again when they change, and the words for
// what goes wrong.

package maas

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	maxTLSFile = 4 << 20
	lookEvery  = time.Second // at the files
	probeTime  = time.Second
)

// tlsConfig fills in what every connection needs.
func tlsConfig(from *tls.Config) *tls.Config {
	config := from.Clone()
	config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
	config.NextProtos = []string{"http/1.1"}
	return config
}

// tlsFiles are the files of a client's options. What they have counts as a whole: a pair of which one half was
// replaced is not used, and what was read before stays.
type tlsFiles struct {
	ca, cert, key string // key: where the key is; all may be empty
	name          string

	mu      sync.Mutex
	config  *tls.Config    // guarded by mu, as all below: what was usable last
	number  int            // how often that changed
	seen    [3]os.FileInfo // of what was read last
	refused error          // why that is not in config
	look    time.Time      // when to look again
}

func newTLSFiles(o *Options) (*tlsFiles, error) {
	f := &tlsFiles{ca: o.CAFile, cert: o.CertFile, key: o.KeyFile, name: o.ServerName}
	if f.key == "" {
		f.key = f.cert
	}
	f.seen = f.stat()
	f.look = time.Now().Add(lookEvery)
	var err error
	f.config, err = f.read()
	return f, err
}

func (f *tlsFiles) stat() (seen [3]os.FileInfo) {
	for i, path := range []string{f.ca, f.cert, f.key} {
		if path != "" {
			seen[i], _ = os.Stat(path)
		}
	}
	return seen
}

func (f *tlsFiles) read() (*tls.Config, error) {
	config := &tls.Config{ServerName: f.name}
	if f.ca != "" {
		text, err := readFile(f.ca, maxTLSFile, false)
		if err != nil {
			return nil, fmt.Errorf("CA file %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("CA file %s: no certificate in it can be used", f.ca)
		}
	}
	if f.cert == "" {
		return tlsConfig(config), nil
	}
	cert, err := readFile(f.cert, maxTLSFile, f.cert == f.key)
	if err != nil {
		what := "certificate file"
		if f.cert == f.key { // or who forgot to name the key would be told to hide a certificate
			what = "no other key file is given, and the certificate file"
		}
		return nil, fmt.Errorf("%s %w", what, err)
	}
	key, err := readFile(f.key, maxTLSFile, true)
	if err != nil {
		return nil, fmt.Errorf("key file %w", err)
	}
	if bytes.Contains(key, []byte("ENCRYPTED")) {
		return nil, fmt.Errorf("key file %s: its key has a passphrase, and nobody is there to type it: openssl pkey -in FILE -out NEW removes it", f.key)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("the key in %s is not that of the certificate in %s, or one of them is damaged: %w", f.key, f.cert, err)
	}
	// Not by config.Certificates, which are kept back from a server that names other CAs: it should say why the
	// certificate is refused, and not take the client for a stranger.
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	return tlsConfig(config), nil
}

// lookAgain reads the files if they have changed; again: or if what they had was refused. The caller holds mu.
func (f *tlsFiles) lookAgain(again bool) {
	seen := f.stat()
	f.look = time.Now().Add(lookEvery)
	same := slices.EqualFunc(seen[:], f.seen[:], func(a, b os.FileInfo) bool {
		if a == nil || b == nil {
			return a == nil && b == nil
		}
		return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
	})
	if same && (f.refused == nil || !again) {
		return
	}
	f.seen = seen
	var config *tls.Config
	if config, f.refused = f.read(); f.refused == nil {
		f.config = config
		f.number++
	}
}

// get returns what the files have, and the number of the reading.
func (f *tlsFiles) get() (*tls.Config, int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Now().After(f.look) {
		f.lookAgain(false)
	}
	return f.config, f.number
}

// isOther tells whether the files have something else than at that reading, with which the server was not content;
// if that cannot be used, the error says why.
func (f *tlsFiles) isOther(number int) (bool, error) {
	if f == nil {
		return false, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.number == number {
		f.lookAgain(true)
	}
	return f.number != number, f.refused
}

// ---- what goes wrong

// isUntrusted tells whether a handshake failed because of a certificate, which other files may mend.
func isUntrusted(err error) bool {
	var untrusted *tls.CertificateVerificationError
	return errors.As(err, &untrusted) || isAlert(err)
}

// isAlert tells whether the server ended the connection with an alert of TLS.
func isAlert(err error) bool {
	var alert *net.OpError
	return errors.As(err, &alert) && alert.Op == "remote error"
}

// explainTLS adds what to do about an error of TLS, in the words of libmaas; "" if it is none.
func (w *sender) explainTLS(ctx context.Context, err error) string {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var header tls.RecordHeaderError
	switch {
	case errors.As(err, &unknown) && w.hasCAs:
		return "the certificate of " + w.text + " is not from a CA in the CA file: get the one that belongs to the server"
	case errors.As(err, &unknown):
		return "the certificate of " + w.text + " is from a CA that this machine does not know: give the CA file of the server (Options.CAFile, Prometheus: ca_file)"
	case errors.As(err, &name):
		return "the certificate of " + w.text + " is not for " + name.Host + ": use a name in the URL that it has, or say it (Options.ServerName, Prometheus: server_name)"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil && time.Now().Before(invalid.Cert.NotBefore):
		return "the certificate of " + w.text + " is not valid yet: is this machine's clock right (`maas doctor`)?"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the certificate of " + w.text + " has expired: renew it there, or set this machine's clock (`maas doctor`)"
	case isUntrusted(err) && !isAlert(err):
		return "the certificate of " + w.text + " does not prove that it is the server: see its purpose, names, dates and CA with `maas doctor`"
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, &header):
		return w.text + " does not speak TLS: give the server --tls-cert and --tls-key, or, on a network that nobody else can read, use http" + strings.TrimPrefix(w.text, "https")
	case isAlert(err):
		return w.text + " ended the TLS connection: does it speak TLS 1.2 or 1.3, and accept the client's certificate? `maas doctor` tells more"
	case broke(err) && w.speaksTLS(ctx):
		return w.text + " speaks TLS: use https" + strings.TrimPrefix(w.text, "http")
	}
	return ""
}

// speaksTLS asks the port of a URL without TLS, on a connection of its own, after it had not a word to say.
func (w *sender) speaksTLS(ctx context.Context) bool {
	u, err := url.Parse(w.base)
	if w.unix != "" || err != nil || u.Scheme != "http" {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	// Nothing is sent and nothing believed but that there was a handshake.
	dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec
	conn, err := dialer.DialContext(ctx, "tcp", hostOf(u))
	if err != nil {
		return isAlert(err)
	}
	conn.Close()
	return true
}

// ---- files

// readFile reads a file as libmaas does: nobody else may change it, nor, if it is secret, read it.
func readFile(path string, limit int64, secret bool) ([]byte, error) {
	info, err := os.Stat(path) // before it is opened: opening a pipe would wait
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if info, err = file.Stat(); err != nil {
		return nil, err
	}
	if err := checkAccess(info, path, secret); err != nil {
		return nil, err
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return io.ReadAll(io.LimitReader(file, limit))
}
