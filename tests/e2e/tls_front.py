# SPDX-License-Identifier: Apache-2.0
"""A server that speaks TLS and passes all on to another, for what maasd itself would not do: refuse a
client during the handshake, speak old versions, break off."""

import socket
import ssl
import threading


class TlsFront:
    """Listens on 127.0.0.1:`port`. With `ca` it wants certificates of clients. `upstream`: a port, or None:
    each connection ends once it has asked."""

    def __init__(self, certificate, upstream, ca=None, newest=None):
        self.upstream = upstream
        self.lock = threading.Lock()
        self.clients = []  # the common name in the certificate of each connection
        self.use(certificate, ca, newest)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def use(self, certificate, ca=None, newest=None):
        """Takes `certificate`.pem and .key for connections from now on."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate + ".pem", certificate + ".key")
        if ca:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(ca)
        if newest:
            context.maximum_version = newest
        self.context = context

    def url(self, scheme="https", host="localhost"):
        return f"{scheme}://{host}:{self.port}"

    def accept(self):
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=[connection], daemon=True).start()

    def serve(self, raw):
        try:
            with self.context.wrap_socket(raw, server_side=True, do_handshake_on_connect=False) as connection:
                self.shake(connection)
                certificate = connection.getpeercert() or {}
                names = [value for part in certificate.get("subject", ()) for _, value in part]
                with self.lock:
                    self.clients.append(names[0] if names else None)
                if self.upstream is None:
                    connection.recv(1000)
                    return
                with socket.create_connection(("127.0.0.1", self.upstream)) as server:
                    self.copy_both(connection, server)
        except OSError:  # a failed handshake, too
            pass

    @staticmethod
    def shake(connection):
        try:
            connection.do_handshake()
        except ssl.SSLError:
            # The alert is on its way: to close with bytes unread would be a reset, which may overtake it.
            socket.socket.shutdown(connection, socket.SHUT_WR)
            while socket.socket.recv(connection, 1 << 16):
                pass
            raise

    def copy_both(self, connection, server):
        back = threading.Thread(target=self.copy, args=[server, connection], daemon=True)
        back.start()
        self.copy(connection, server)
        back.join()

    @staticmethod
    def copy(source, target):
        try:
            while data := source.recv(1 << 16):
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
