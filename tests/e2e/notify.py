"""systemd's end of sd_notify(3): python3 notify.py MAASD"""

import os
import signal
import socket
import sys
import tempfile

from processes import Maasd


def wait_for(sock, word):
    while word not in sock.recv(4096).decode().split("\n"):
        pass


with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
    os.environ |= {"NOTIFY_SOCKET": os.path.join(directory, "notify"), "WATCHDOG_USEC": "600000"}
    notified.bind(os.environ["NOTIFY_SOCKET"])
    notified.settimeout(20)
    server = Maasd(sys.argv[1], directory, "maasd")
    for message in ["READY=1", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"]:
        wait_for(notified, message)
    server.process.send_signal(signal.SIGTERM)
    wait_for(notified, "STOPPING=1")
    assert server.ends_by_itself(20) == 0, server.text()
