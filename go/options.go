// SPDX-License-Identifier: Apache-2.0

// The options of Open, and the forms of a server's address.

package maas

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// The transports of Options.Transport and Client.Transport.
const (
	TransportAuto = "auto"
	TransportHTTP = "http"
	TransportRDMA = "rdma"
)

const (
	defaultTimeout    = 5 * time.Second
	defaultSessionTTL = 10 * time.Second
	maxTTL            = 31622400 * time.Second
)

// Options say where the server is and how to talk to it. The zero value of a field is its default.
type Options struct {
	// URL of the server: https://HOST:PORT, http://HOST:PORT, HOST:PORT (which is http) or unix:PATH.
	URL string
	// Name of the session to open: 1 to 63 of A-Z a-z 0-9 . _ : / @ -. Empty: no session.
	Name string
	// Exclusive refuses to open while another session of this name lives (ErrNameTaken).
	Exclusive bool
	// SessionTTL is the lease to ask for, rounded up to whole seconds; the server's answer says
	// what was granted. A server refuses more than its --max-session-ttl. Default: 10 s.
	SessionTTL time.Duration
	// Transport is "http", "rdma" or "auto" (the default): RDMA in a program built for it, if
	// this machine and the server reach each other by it, else HTTP.
	Transport string
	// Timeout is the time for one request; a context may end earlier. Calls that take several
	// requests (List; Free, ReadV and WriteV of many) have it for each. Default: 5 s. Of it, a new
	// connection may take 2 s, the look-up of the name included, and 2 s more for TLS.
	Timeout time.Duration
	// Token returns the token that says who sends the requests, for a server with --auth-file. It
	// is called when the token is first needed, with each renewal of a session, and when the server
	// refuses the token; then the request is repeated, so that a token is replaced without losing a
	// request. Any goroutine may call it, one at a time. No request waits for it beyond its Timeout
	// and context, and none that has a token. Not with RDMA, which takes TokenFile.
	Token func() (string, error)
	// TokenFile is the same, read from a file: its first line. Others may not read the file.
	TokenFile string

	// For https:// alone, all in PEM. The files are read again when they change, and at once when the server
	// refuses the certificate; requests that begin then have new connections.

	// CAFile has the CAs that the server's certificate may come from, and no others. Empty: those that
	// this machine knows.
	CAFile string
	// CertFile has the certificate that says who sends the requests, with those between it and its CA;
	// KeyFile its key, without a passphrase, which others may not read. Empty: none; the key may be in
	// CertFile.
	CertFile, KeyFile string
	// ServerName is a name that the server's certificate has, where the URL's host is not one.
	ServerName string
	// TLS is used instead of the four above, for what they cannot say; TLS 1.2 is the least. Not with
	// RDMA.
	TLS *tls.Config
}

var (
	namePattern = regexp.MustCompile(`^[A-Za-z0-9._:/@-]{1,63}$`)
	idPattern   = regexp.MustCompile(`^[A-Za-z0-9-]{1,39}$`)
	answeredID  = regexp.MustCompile(`^[0-9A-Fa-f-]{36}$`) // as the server makes them
)

// address is where the server listens.
type address struct {
	text string // as given in the options, for people
	base string // what request paths are appended to
	unix string // path of its socket, or empty
	tls  bool
}

func parseURL(text string) (address, error) {
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		if path == "" {
			return address{}, errors.New("unix: without a path; give unix:PATH of the server's socket")
		}
		return address{text: text, base: "http://localhost", unix: path}, nil
	}
	if text != "" && !strings.Contains(text, "://") {
		text = "http://" + text // as curl does
	}
	u, err := url.Parse(text)
	switch {
	case strings.Contains(text, "@"): // Before parsing: a parser's error would show the text.
		return address{}, fmt.Errorf("%q has a user's name, or a password: the server asks for none; give http://HOST:PORT", shown(text))
	case err != nil:
		return address{}, fmt.Errorf("%w; give http://HOST:PORT, https://HOST:PORT or unix:PATH", err)
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return address{}, fmt.Errorf("%q is not a server; give http://HOST:PORT, https://HOST:PORT or unix:PATH", shown(text))
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return address{}, fmt.Errorf("%q has more than a host and a port; give http://HOST:PORT or https://HOST:PORT", shown(text))
	}
	base := u.Scheme + "://" + u.Host
	return address{text: base, base: base, tls: u.Scheme == "https"}, nil
}

// shown is a URL without parts that may be secret: the text before an @, and the query.
func shown(text string) string {
	scheme, rest, _ := strings.Cut(text, "://")
	if at := strings.LastIndex(rest, "@"); at >= 0 {
		rest = "…" + rest[at:]
	}
	rest, _, _ = strings.Cut(rest, "?")
	return scheme + "://" + rest
}

// Check refuses options that Open would refuse whatever the server is. Its error shows no password.
func (o Options) Check() error {
	if _, err := o.check(); err != nil {
		return fmt.Errorf("maas: %w", err)
	}
	return nil
}

// check fills in defaults, refuses what the server would refuse later, and returns the server's
// address.
func (o *Options) check() (address, error) {
	if err := o.checkFields(); err != nil {
		return address{}, err
	}
	to, err := parseURL(o.URL)
	if err == nil {
		err = o.checkTLS(to)
	}
	return to, err
}

func (o *Options) hasTLSFiles() bool {
	return o.CAFile+o.CertFile+o.KeyFile+o.ServerName != ""
}

// checkTLS refuses what would be less safe than it looks.
func (o *Options) checkTLS(to address) error {
	switch {
	case !to.tls && (o.TLS != nil || o.hasTLSFiles()):
		return fmt.Errorf("TLS, CAFile, CertFile, KeyFile and ServerName are for https://, and the URL is %s", to.text)
	case o.TLS != nil && o.hasTLSFiles():
		return errors.New("TLS, and a CAFile, CertFile, KeyFile or ServerName beside it: give one or the others")
	case o.TLS != nil && o.Transport != TransportHTTP && rdmaBuilt:
		return errors.New("TLS works over HTTP alone: give RDMA a CAFile, CertFile, KeyFile and ServerName (Prometheus: ca_file and so on), or use the transport http")
	case o.TLS != nil && o.TLS.InsecureSkipVerify && o.TLS.VerifyConnection == nil && o.TLS.VerifyPeerCertificate == nil:
		return errors.New("TLS.InsecureSkipVerify: the server's certificate is always checked; give RootCAs and ServerName")
	case o.KeyFile != "" && o.CertFile == "":
		return fmt.Errorf("KeyFile %s without a CertFile: give both", o.KeyFile)
	}
	return nil
}

func (o *Options) checkFields() error {
	if o.Transport == "" {
		o.Transport = TransportAuto
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	if o.SessionTTL == 0 {
		o.SessionTTL = defaultSessionTTL
	}
	o.SessionTTL = wholeSeconds(o.SessionTTL)
	switch {
	case o.Transport != TransportAuto && o.Transport != TransportHTTP && o.Transport != TransportRDMA:
		return fmt.Errorf("transport %q: it must be auto, http or rdma", o.Transport)
	case o.Transport == TransportRDMA && !rdmaBuilt:
		return errors.New("this program was built without RDMA; build it with cgo, libmaas and -tags maasrdma (Prometheus: scripts/build-prometheus --rdma), or use the transport http")
	case o.Token != nil && o.TokenFile != "":
		return errors.New("a Token and a TokenFile: give one of the two")
	case o.Token != nil && o.Transport != TransportHTTP && rdmaBuilt:
		return errors.New("a Token works over HTTP alone: give RDMA a TokenFile (Prometheus: credentials_file), or use the transport http")
	case o.Timeout < 0:
		return fmt.Errorf("timeout %v is negative", o.Timeout)
	case o.SessionTTL < 0 || o.SessionTTL > maxTTL:
		return fmt.Errorf("session TTL %v: it must be 1 s to %v", o.SessionTTL, maxTTL)
	case o.Name != "" && !namePattern.MatchString(o.Name):
		return fmt.Errorf("session name %q: it must be 1 to 63 of A-Z a-z 0-9 . _ : / @ -", o.Name)
	case o.Name == "" && o.Exclusive:
		return errors.New("an exclusive session needs a name")
	}
	return nil
}

// wholeSeconds rounds up: a lease must not be shorter than asked for.
func wholeSeconds(d time.Duration) time.Duration {
	return (d + time.Second - 1).Truncate(time.Second)
}
