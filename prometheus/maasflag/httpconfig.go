// SPDX-License-Identifier: Apache-2.0

// The file of --storage.tsdb.maas.http-config-file, in the format of Prometheus' other HTTP clients. It says which
// token goes to the memory server.

package maasflag

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"

	"github.com/prometheus/common/config"
)

// yamlValue is how the parser quotes what it cannot use, which may be a secret in the wrong place.
var yamlValue = regexp.MustCompile("`[^`]*`")

// readHTTPConfig returns the credentials of the file, either inline or as a file's name.
func readHTTPConfig(path string) (*config.Authorization, error) {
	c, _, err := config.LoadHTTPConfigFile(path)
	if err != nil {
		return nil, errors.New(yamlValue.ReplaceAllString(err.Error(), "`…`"))
	}
	known := config.DefaultHTTPClientConfig
	known.Authorization = c.Authorization
	a := c.Authorization
	switch {
	case !reflect.DeepEqual(*c, known) && !reflect.DeepEqual(*c, config.HTTPClientConfig{}): // That is an empty file.
		return nil, errors.New("only authorization works with the memory server, which speaks no TLS yet and is reached without a proxy: leave out the rest")
	case a == nil || a.Credentials == "" && a.CredentialsFile == "" || a.CredentialsRef != "":
		return nil, errors.New("there are no credentials in it: give authorization its credentials_file, or credentials")
	case !strings.EqualFold(a.Type, "Bearer"):
		return nil, fmt.Errorf("authorization of the type %q: the memory server knows Bearer alone", a.Type)
	}
	return a, nil
}

// token returns where the token for the memory server is; both are empty without one. Inline credentials are looked
// up again when the server refuses them, as a file of credentials is.
func (c *Config) token() (get func() (string, error), file string, err error) {
	if c.HTTPConfigFile == "" {
		return nil, "", nil
	}
	a, err := readHTTPConfig(c.HTTPConfigFile)
	if err != nil {
		return nil, "", fmt.Errorf("--%shttp-config-file=%s: %w", prefix, c.HTTPConfigFile, err)
	}
	if a.CredentialsFile != "" {
		return nil, a.CredentialsFile, nil
	}
	return func() (string, error) {
		a, err := readHTTPConfig(c.HTTPConfigFile)
		if err != nil {
			return "", err
		}
		return string(a.Credentials), nil
	}, "", nil
}
