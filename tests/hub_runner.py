"""Runs `ip2p` for tests, again and again in one Python: for each line on stdin, {"arguments", "token"} as JSON, it
prints the exit status, stdout and stderr as a line of JSON. HF_ENDPOINT and HF_HOME are read when it starts.
"""

import contextlib
import io
import json
import os
import sys


def main() -> None:
    from ip2p.cli import main as ip2p

    for line in sys.stdin:
        told = json.loads(line)
        os.environ.pop("HF_TOKEN", None)
        if told["token"]:
            os.environ["HF_TOKEN"] = told["token"]
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = ip2p(told["arguments"])
            except SystemExit as usage:
                code = usage.code
        print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)


if __name__ == "__main__":
    main()
