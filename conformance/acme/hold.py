#!/usr/bin/env python3
"""Keeps one TLS connection to a host of the gateway, asks on it again and again, and looks at the
certificate that new connections are shown meanwhile.

    hold.py HOST PORT ROOT CHANGES SECONDS

Ends well once new connections have been shown CHANGES other certificates, while every request was
answered on the connection of the start; else says what happened, at the latest after SECONDS.
"""
import socket
import ssl
import sys
import time

host, port, root, changes, seconds = sys.argv[1:]
context = ssl.create_default_context(cafile=root)


def connect():
    plain = socket.create_connection(("127.0.0.1", int(port)), timeout=10)
    return context.wrap_socket(plain, server_hostname=host)


def ask(stream):
    stream.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    reader = stream.makefile("rb")
    status = reader.readline().decode()
    length = 0
    while (line := reader.readline().strip().lower()):
        name, _, value = line.partition(b":")
        if name == b"content-length":
            length = int(value)
    body = reader.read(length)
    if " 200 " not in status or b"Hello" not in body:
        sys.exit(f"the connection of the start was answered {status!r}")


def shown():
    with connect() as stream:
        return stream.getpeercert()["serialNumber"]


held = connect()
first = held.getpeercert()["serialNumber"]
serials, asked = [first], 0
end = time.monotonic() + float(seconds)
while len(serials) <= int(changes):
    if time.monotonic() > end:
        sys.exit(f"{asked} answers on one connection, but the certificates were {serials}")
    ask(held)
    asked += 1
    now = shown()
    if now not in serials:
        serials.append(now)
    time.sleep(0.2)
ask(held)
print(f"      {asked + 1} answers on one connection while the certificate changed {changes} times")
