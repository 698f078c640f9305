"""One keep-alive connection of http.client: counts, and checks every count, until its standard input ends."""
import http.client
import json
import select
import sys
import time

host, port, pause_s = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
connection = http.client.HTTPConnection(host, port, timeout=5)
connection.connect()
first_socket = connection.sock
count, longest, told_at = 0, 0.0, 0.0


def ask(method, target):
    global longest
    begun = time.monotonic()
    connection.request(method, target)
    reply = connection.getresponse()
    body = reply.read()
    longest = max(longest, time.monotonic() - begun)
    if reply.status != 200:
        sys.exit(f"{method} {target}: {reply.status} {body!r}")
    if connection.sock is not first_socket:
        sys.exit(f"{method} {target}: the connection was closed after {count} increments")
    return body


while not select.select([sys.stdin], [], [], pause_s)[0]:
    count += 1
    said = int(ask("POST", "/counter"))
    if said != count:
        sys.exit(f"the counter is {said} after {count} increments")
    if time.monotonic() - told_at > 0.1:
        told_at = time.monotonic()
        facts = json.loads(ask("GET", "/session"))
        print(json.dumps({"node": facts["node"], "count": count, "longest_ms": round(longest * 1e3)}), flush=True)
