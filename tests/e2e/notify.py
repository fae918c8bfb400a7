"""systemd's end of sd_notify(3): python3 notify.py MAASD"""

import os
import signal
import socket
import subprocess
import sys
import tempfile


def wait_for(sock, word):
    while True:
        text = sock.recv(4096).decode()
        if word in text.split("\n"):
            return


def main():
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "notify")
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.bind(path)
        sock.settimeout(20)
        server = subprocess.Popen(
            [sys.argv[1], "--listen", "127.0.0.1:0"],
            env=dict(os.environ, NOTIFY_SOCKET=path, WATCHDOG_USEC="600000"),
            stderr=subprocess.DEVNULL,
        )
        try:
            for word in ["READY=1", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"]:
                wait_for(sock, word)
            server.send_signal(signal.SIGTERM)
            wait_for(sock, "STOPPING=1")
            status = server.wait(20)
            if status != 0:
                sys.exit(f"maasd ended with {status}")
        finally:
            server.kill()
            server.wait()


main()
