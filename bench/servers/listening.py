"""What all Python servers share: their two options, the descriptor limit, and the line that says that they listen."""

import argparse
import resource

BACKLOG = 4096


def parse_address() -> tuple[str, int]:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    options = parser.parse_args()
    return options.host, options.port


def raise_descriptor_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def announce(host: str, port: int) -> None:
    print(f"listening on {host}:{port}", flush=True)
