#!/usr/bin/env python3
"""The alerts of ops/alerts.yml that need an RDMA device: fired by its real fault at a real maasd, and silent before it
and after it. Runs as root where scripts/softroce has made a device; makes and loses another one.

Usage: test_rdma_alerts.py MAASD MAAS SOURCE [ALERT...]
"""
import os
import subprocess
import sys

from alerts import ON_A_DEVICE, Rules, Site, Trials
from processes import write_private

OTHER = {"device": "rxe1", "netdev": "other", "address": "10.79.0.1"}  # The device that is lost.
TRIALS = Trials()


class Device(Site):
    """Servers at the device that is there."""

    def __init__(self, maasd, maas, work):
        super().__init__(maasd, work, "--max-pool-size", "64MiB", "--rdma", "required")
        self.maas, self.address = maas, os.environ["SOFTROCE_ADDR"]

    def borrower(self, server, threads, token=None):
        """maas bench, of which each thread holds an allocation, and the key to it."""
        options = ["--transport", "rdma", "--hold", "--threads", str(threads), "--time", "600", "--json"]
        if token:
            path = self.path("token")
            write_private(path, token)
            options += ["--token-file", path]
        with open(server.log + ".bench", "wb") as out:
            return subprocess.Popen([self.maas, "bench", "--url", server.url, *options], stdout=out, stderr=out)


def run(command):
    subprocess.run(command.split(), check=True)


def plug():
    run("rdma link add {device} type rxe netdev {netdev}".format(**OTHER))


@TRIALS.add("MaasRdmaDown", "rdma link delete", also=["MaasRestarted", "MaasMemoryLost"])
def loses_its_device(site):
    run("ip link add {netdev} type dummy".format(**OTHER))
    run("ip addr add {address}/24 dev {netdev}".format(**OTHER))
    run("ip link set {netdev} up".format(**OTHER))
    plug()
    server = site.server("--rdma-device", OTHER["device"], host=OTHER["address"])
    yield server.watched
    # The kernel takes it away at once, and waits until nobody has it open.
    with subprocess.Popen("rdma link delete {device}".format(**OTHER).split()):
        yield
        server.kill()
    plug()
    server.start()


@TRIALS.add("MaasIsolationLost", "--rdma-keys pool", also=["MaasRestarted", "MaasMemoryLost"])
def opens_the_pool(site):
    server = site.server(host=site.address)
    yield server.watched
    apart = server.options
    server.again(*apart, "--rdma-keys", "pool")
    yield
    server.again(*apart)


@TRIALS.add("MaasKeysRefused", "a third key where there may be two", reason="grants_exhausted")
def has_no_keys(site):
    server = site.server("--max-grants", "2", host=site.address)
    yield server.watched
    refused = site.borrower(server, 3)
    assert refused.wait(120) != 0, "a third key"
    yield


@TRIALS.add("MaasQuotaNearlyReached", "all of max-grants in use", quota="grants")
def has_its_keys(site):
    server, token = site.server_with("max-grants=2", "--insecure-plaintext", host=site.address)
    yield server.watched
    borrower = site.borrower(server, 2, token)
    yield
    borrower.terminate()
    assert borrower.wait(120) is not None


def main():
    maasd, maas, source, *only = sys.argv[1:]
    assert TRIALS.alerts() >= ON_A_DEVICE, f"alerts without a fault: {ON_A_DEVICE - TRIALS.alerts()}"
    os.umask(0o077)
    TRIALS.fire(Rules(source), "maasd", only, lambda work: Device(maasd, maas, work))


main()
