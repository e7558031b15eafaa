"""``python -m tests.asyncapi_parser``: the published AsyncAPI documents under AsyncAPI's own parser.

Not a part of `make test`: it needs Node, and npm downloads the parser (once, into ``~/.cache/callstream``).
"""

import subprocess
import sys
from pathlib import Path

from events.schemas import published

PARSER = "@asyncapi/parser@3.6.6"
FOLDER = Path.home() / ".cache" / "callstream" / "asyncapi-parser-3.6.6"
PROGRAM = """
import { Parser } from '@asyncapi/parser';
import { readFileSync } from 'node:fs';
let bad = 0;
for (const file of process.argv.slice(2)) {
  const { document, diagnostics } = await new Parser().parse(readFileSync(file, 'utf8'));
  for (const one of diagnostics)
    console.log(`  severity ${one.severity} ${one.code} ${one.path.join('.')}: ${one.message}`);
  const wrong = !document || diagnostics.some((one) => one.severity < 2);
  console.log(`${wrong ? 'INVALID' : 'valid'}: ${file}, ${document ? document.allMessages().length : 0} messages`);
  bad += wrong;
}
process.exit(bad ? 1 : 0);
"""


def main() -> int:
    """0 when each is valid: no errors, no warnings."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    if not (FOLDER / "node_modules").is_dir():
        command = ["npm", "install", "--prefix", str(FOLDER), "--no-audit", "--no-fund", "--silent", PARSER]
        subprocess.run(command, check=True)
    program = FOLDER / "validate.mjs"
    program.write_text(PROGRAM, "utf-8")
    documents = [str(published.VERSIONS / str(one) / f"{published.ASYNCAPI}.json") for one in published.numbers()]
    return subprocess.run(["node", str(program), *documents], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
