"""Turns the log of the suite into docs/conformance/networking.md; fails if a test is missing.

The suite names its tests in run.go: what the log does not tell of did not run.
"""

import re
import subprocess
import sys

log, version, *flags = sys.argv[1:]
module = "knative.dev/networking"
source = subprocess.check_output(["go", "list", "-m", "-f", "{{.Dir}}", module], text=True).strip()
levels, level = {}, None
for line in open(f"{source}/test/conformance/ingress/run.go", encoding="utf-8"):
    if found := re.match(r"var (\w+)Tests = map", line):
        level = found[1]
    elif level and (found := re.match(r'\s+"([^"]+)":\s+Test', line)):
        levels[found[1]] = level
    elif line.startswith("}"):
        level = None
# A subtest's own subtests are further in.
results = {}
for line in open(log, encoding="utf-8", errors="replace"):
    if found := re.match(r"    --- (PASS|FAIL|SKIP): TestIngressConformance/(\S+)", line):
        results[found[2]] = {"PASS": "passed", "FAIL": "failed", "SKIP": "skipped"}[found[1]]
rows = [(name, level, results.get(name, "did not run")) for name, level in levels.items()]
counts = {word: sum(row[2] == word for row in rows) for word in ("passed", "failed", "skipped", "did not run")}
summary = ", ".join(f"{count} {word}" for word, count in counts.items() if count or word in ("passed", "failed", "skipped"))
print(f"""# Knative networking: ingress conformance

`cargo xtask conformance networking` runs the suite of `{module}`, `test/conformance/ingress`, as it is in the Go module {version}, with

```text
{" ".join(flags)}
```

against a fresh `suimon up` whose pods are containers. The programs in its pods are built from the same module. `--write` writes this page from the run.

**{summary} of {len(rows)}**

| test | level | result |
|---|---|---|""")
for name, level, result in rows:
    print(f"| `{name}` | {level} | {result} |")
print("""
The version is the one that Knative Serving v0.50.0 is built with; that of v0.51.0 was not to be had as a module. The module's other suite, `test/conformance/certificate`, is not part of this run.""")
sys.exit(0 if rows and counts["passed"] == len(rows) else 1)
