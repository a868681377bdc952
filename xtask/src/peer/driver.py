"""Runs the command lines of standard input in one process, one JSON object a line."""

import contextlib
import io
import json
import sys

from sevsnpmeasure import cli, id_block

PROGRAMS = {"sev-snp-measure": cli.main, "snp-create-id-block": id_block.main}


def run(program, arguments):
    sys.argv = [program, *arguments]
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = PROGRAMS[program]()
    return {"code": code or 0, "output": output.getvalue()}


for line in sys.stdin.buffer:
    print(json.dumps(run(**json.loads(line))), flush=True)
