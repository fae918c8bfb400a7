// SPDX-License-Identifier: Apache-2.0

// The file of --storage.tsdb.maas.http-config-file, in the format of Prometheus' other HTTP clients. It says which token
// and which certificate go to the memory server, and whom to trust.

package maasflag

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"

	"github.com/prometheus/common/config"

	maas "github.com/maas-memory/maas/go"
)

// yamlValue is how the parser quotes what it cannot use, which may be a secret in the wrong place.
var yamlValue = regexp.MustCompile("`[^`]*`")

func readHTTPConfig(path string) (*config.HTTPClientConfig, error) {
	c, _, err := config.LoadHTTPConfigFile(path)
	if err != nil {
		return nil, errors.New(yamlValue.ReplaceAllString(err.Error(), "`…`"))
	}
	known := config.DefaultHTTPClientConfig
	known.Authorization, known.TLSConfig = c.Authorization, c.TLSConfig
	noTLS := reflect.DeepEqual(c.TLSConfig, config.TLSConfig{})
	a := c.Authorization
	switch {
	case !reflect.DeepEqual(*c, known) && !reflect.DeepEqual(*c, config.HTTPClientConfig{}): // That is an empty file.
		return nil, errors.New("only authorization and tls_config work with the memory server, which is reached without a proxy: leave out the rest")
	case a == nil && noTLS:
		return nil, errors.New("there are no credentials in it: give authorization its credentials_file, or credentials; or tls_config, its cert_file and key_file")
	case a != nil && (a.Credentials == "" && a.CredentialsFile == "" || a.CredentialsRef != ""):
		return nil, errors.New("there are no credentials in it: give authorization its credentials_file, or credentials")
	case a != nil && !strings.EqualFold(a.Type, "Bearer"):
		return nil, fmt.Errorf("authorization of the type %q: the memory server knows Bearer alone", a.Type)
	case c.TLSConfig.InsecureSkipVerify:
		return nil, errors.New("insecure_skip_verify: the memory server's certificate is always checked; give tls_config its ca_file and, where the URL has another name than the certificate, server_name")
	}
	return c, nil
}

// proof returns the options for who this is and whom it trusts; none without a file.
func (c *Config) proof() (o maas.Options, err error) {
	if c.HTTPConfigFile == "" {
		return o, nil
	}
	h, err := readHTTPConfig(c.HTTPConfigFile)
	if err == nil {
		err = setTLS(&o, &h.TLSConfig)
	}
	if err != nil {
		return o, fmt.Errorf("--%shttp-config-file=%s: %w", prefix, c.HTTPConfigFile, err)
	}
	switch {
	case h.Authorization == nil:
	case h.Authorization.CredentialsFile != "":
		o.TokenFile = h.Authorization.CredentialsFile
	default:
		o.Token = c.inlineToken
	}
	return o, nil
}

// inlineToken is asked again when the server refuses the token, as a file of credentials is read again.
func (c *Config) inlineToken() (string, error) {
	h, err := readHTTPConfig(c.HTTPConfigFile)
	if err != nil {
		return "", err
	}
	if h.Authorization == nil {
		return "", errors.New("there are no credentials in it any more")
	}
	return string(h.Authorization.Credentials), nil
}

// setTLS uses files, which work over both transports and are read again when they change, unless there is something
// that only Prometheus' own library does.
func setTLS(o *maas.Options, t *config.TLSConfig) (err error) {
	files := config.TLSConfig{CAFile: t.CAFile, CertFile: t.CertFile, KeyFile: t.KeyFile, ServerName: t.ServerName}
	if reflect.DeepEqual(*t, files) {
		o.CAFile, o.CertFile, o.KeyFile, o.ServerName = t.CAFile, t.CertFile, t.KeyFile, t.ServerName
		return nil
	}
	o.TLS, err = config.NewTLSConfig(t)
	return err
}
