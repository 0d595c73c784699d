"""Runs in a container on the lab host: receives what Alertmanager sends and prints it."""

from __future__ import annotations

import http.server
import json


class Receiver(http.server.BaseHTTPRequestHandler):
    """Prints one line of JSON for each alert of a message."""

    def do_POST(self) -> None:
        """Take a message."""
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for alert in message["alerts"]:
            shown = {"status": alert["status"], "labels": alert["labels"], "path": self.path}
            print(json.dumps(shown), flush=True)
        self.send_response(200)
        self.end_headers()


http.server.HTTPServer(("", 8080), Receiver).serve_forever()
