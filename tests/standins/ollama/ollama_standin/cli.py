"""The command line: ``ollama serve|pull|list|show|rm|ps``."""

from __future__ import annotations

import argparse
import signal
import sys

from ollama_standin import VERSION, client, settings
from ollama_standin.client import ClientError
from ollama_standin.server import Server
from ollama_standin.store import Store

_MB = 1_000_000


def _serve(_args: argparse.Namespace) -> None:
    host, port = settings.listen_address()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    store = Store(settings.models_dir())
    with Server((host, port), store) as server:
        print(f"Listening on {host}:{port} (version {VERSION})", flush=True)
        server.serve_forever()


def _pull(args: argparse.Namespace) -> None:
    for event in client.stream("/api/pull", {"model": args.model}):
        line = event["status"]
        if event.get("total"):
            line += f" {100 * event.get('completed', 0) // event['total']:3d}%"
        print(line, file=sys.stderr, flush=True)


def _list(_args: argparse.Namespace) -> None:
    print(f"{'NAME':<24} {'ID':<16} {'SIZE':<10} MODIFIED")
    for model in client.call("GET", "/api/tags")["models"]:
        size = f"{model['size'] / _MB:.1f} MB"
        day = model["modified_at"][:10]
        print(f"{model['name']:<24} {model['digest'][:12]:<16} {size:<10} {day}")


def _ps(_args: argparse.Namespace) -> None:
    client.call("GET", "/api/ps")
    print("NAME    ID    SIZE    PROCESSOR    UNTIL")


def _show(args: argparse.Namespace) -> None:
    shown = client.call("POST", "/api/show", {"model": args.model})
    print("  Model")
    for key in ("family", "parameter_size", "quantization_level"):
        print(f"    {key:<20} {shown['details'][key]}")


def _remove(args: argparse.Namespace) -> None:
    client.call("DELETE", "/api/delete", {"model": args.model})
    print(f"deleted '{args.model}'")


_COMMANDS = {
    "serve": (_serve, False),
    "pull": (_pull, True),
    "list": (_list, False),
    "ls": (_list, False),
    "ps": (_ps, False),
    "show": (_show, True),
    "rm": (_remove, True),
}


def main() -> int:
    """Run one command and return its exit code."""
    parser = argparse.ArgumentParser(prog="ollama", description="A stand-in for Ollama")
    parser.add_argument("-v", "--version", action="version", version=f"ollama version is {VERSION}")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (_, takes_model) in _COMMANDS.items():
        command = commands.add_parser(name)
        if takes_model:
            command.add_argument("model")
    args = parser.parse_args()
    try:
        _COMMANDS[args.command][0](args)
    except (ClientError, OSError) as exc:
        print(f"Error: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
