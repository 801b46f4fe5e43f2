"""TLS in front of a server that has none: tls.py CERTIFICATE KEY PORT

Listens on a free port of 127.0.0.1 and prints it; every connection is handed on to PORT. Ends with its stdin.
"""

import os
import socket
import ssl
import sys
import threading


def pump(source, target):
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


def serve(connection, context, port):
    try:
        front = context.wrap_socket(connection, server_side=True)
        back = socket.create_connection(("127.0.0.1", port))
    except OSError:
        connection.close()
        return
    threading.Thread(target=pump, args=(back, front), daemon=True).start()
    pump(front, back)


def accept(listener, context, port):
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, context, port), daemon=True).start()


def main():
    certificate, key, port = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    threading.Thread(target=accept, args=(listener, context, int(port)), daemon=True).start()
    sys.stdin.read()
    os._exit(0)


main()
