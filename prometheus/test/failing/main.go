// SPDX-License-Identifier: Apache-2.0

// Command failing runs a command beside a proxy of the memory server in $MAAS_URL, which lets every 7th
// request fail in one of three ways. The command finds the proxy in its own $MAAS_URL.
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"sync/atomic"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: MAAS_URL=URL failing COMMAND [ARGUMENT...]")
		os.Exit(2)
	}
	if err := run(os.Getenv("MAAS_URL"), exec.Command(os.Args[1], os.Args[2:]...)); err != nil {
		fmt.Fprintln(os.Stderr, "failing:", err)
		os.Exit(1)
	}
}

func run(server string, command *exec.Cmd) error {
	target, err := url.Parse(server)
	if err != nil {
		return err
	}
	log.SetOutput(io.Discard) // Of requests that are meant to fail.
	proxy := httptest.NewServer(everySeventh(httputil.NewSingleHostReverseProxy(target)))
	command.Env = append(os.Environ(), "MAAS_URL="+proxy.URL)
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	return command.Run()
}

func everySeventh(proxy http.Handler) http.Handler {
	var calls atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch n := calls.Add(1); {
		case n%7 != 0:
			proxy.ServeHTTP(w, r)
		case n%3 == 0:
			http.Error(w, "{}", http.StatusServiceUnavailable)
		case n%3 == 1:
			_, _ = io.Copy(io.Discard, r.Body)
			panic(http.ErrAbortHandler) // The connection ends without an answer.
		default:
			proxy.ServeHTTP(httptest.NewRecorder(), r) // It is done, and the answer is lost.
			panic(http.ErrAbortHandler)
		}
	})
}
