"""Turns what `run` recorded into docs/kubectl.md."""

import re
import sys

rows, directory, *versions = sys.argv[1:]
results = {}
for line in open(rows, encoding="utf-8"):
    result, number, words = line.rstrip("\n").split("\t")
    words = words.replace(directory, "DIR")
    words = re.sub(r"(pod/)?web-[a-z0-9]+-[a-z0-9]{5}", r"\1POD", words)
    words = re.sub(r"/dev/fd/\d+", "FILE", words)
    words = re.sub(r"\b(crb?|pc)\d\b", r"\1", words)
    results.setdefault(words, {})[int(number)] = result
print("# kubectl against Suimon")
print()
print("`cargo xtask conformance kubectl` (or `conformance/kubectl/run`) starts `suimon up` and runs these "
      "commands against it; it fails if one does not do what it should. `--write` writes this page.")
print()
print("Each was run with " + " and ".join(f"kubectl {version}" for version in versions)
      + ". *refused* means that the command fails with this text, as it does with Kubernetes.")
print()
print("| command |" + "".join(f" {version} |" for version in versions))
print("|---|" + "---|" * len(versions))
for words, result in results.items():
    cells = [result.get(number + 1, "–").replace("|", "\\|") for number in range(len(versions))]
    print(f"| `{words}` |".replace("|items", "\\|items") + "".join(f" {cell} |" for cell in cells))
print()
print("""## Not served

- Admission webhooks, mutating admission policies, CSI drivers, priority and fairness: their kinds can be stored, and every answer says that they have no effect. The kinds of dynamic resource allocation (`resource.k8s.io`) do not exist here.
- `kubectl debug node/NAME` needs the `oci` runtime (Linux, root): with plain processes the pod is made and says that it cannot mount the machine's files. `--profile=sysadmin` asks for a privileged container, which is refused.
- `kubectl get --raw /api/v1/nodes/NAME/proxy/...`: of a kubelet's pages those in the table, and `containerLogs`; others are refused with the names of those that are there.""")
