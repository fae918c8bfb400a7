# SPDX-License-Identifier: Apache-2.0
"""Certificates for tests, made with openssl(1) in a directory: NAME.pem, NAME.key (mode 0600)."""

import os
import subprocess

KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


class Certificates:
    def __init__(self, directory):
        self.directory = directory

    def path(self, name):
        return os.path.join(self.directory, name)

    def openssl(self, *arguments):
        done = subprocess.run(["openssl", *arguments], cwd=self.directory, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"openssl {' '.join(arguments)}: {done.stderr}")

    @staticmethod
    def knows(option):
        text = subprocess.run(["openssl", "x509", "-help"], capture_output=True, text=True, check=False)
        return option in text.stdout + text.stderr

    def dates(self, days):
        if days < 0 and self.knows("-not_before"):  # and then it refuses negative days
            return ["-not_before", "20200101000000Z", "-not_after", "20200102000000Z"]
        return ["-days", str(days)]

    def make_ca(self, name, *extensions):
        self.openssl("req", "-x509", *KEY, "-keyout", name + ".key", "-out", name + ".pem", "-subj", "/CN=" + name,
                     "-days", "30", *(part for one in ["keyUsage=critical,keyCertSign,cRLSign", *extensions]
                                      for part in ["-addext", one]))

    def make_expired_ca(self, name, ca):
        """What `ca` was before it was renewed with the same key."""
        self.openssl("x509", "-in", ca + ".pem", "-signkey", ca + ".key", "-out", name + ".pem", *self.dates(-1))

    def make_crl(self, ca="ca", hours=30 * 24):
        """CA.crl, which revokes nothing, and is to be replaced in so many hours."""
        with open(self.path("crl.cnf"), "w", encoding="ascii") as file:
            file.write("[ca]\ndefault_ca = d\n[d]\ndatabase = none\ndefault_md = sha256\n")
        with open(self.path("none"), "w", encoding="ascii"):
            pass
        self.openssl("ca", "-config", "crl.cnf", "-gencrl", "-crlhours", str(hours), "-cert", ca + ".pem",
                     "-keyfile", ca + ".key", "-out", ca + ".crl")

    def make(self, name, names="DNS:localhost,IP:127.0.0.1", usage="serverAuth", ca="ca", days=30):
        """A certificate of `ca` for the names; negative days: it has expired."""
        self.openssl("req", "-new", *KEY, "-keyout", name + ".key", "-out", name + ".csr", "-subj", "/CN=" + name)
        with open(self.path(name + ".ext"), "w", encoding="ascii") as file:
            file.write(f"subjectAltName={names}\nextendedKeyUsage={usage}\n")
        self.openssl("x509", "-req", "-in", name + ".csr", "-CA", ca + ".pem", "-CAkey", ca + ".key",
                     "-CAcreateserial", "-extfile", name + ".ext", "-out", name + ".pem",
                     *self.dates(days))
