"""Are there known vulnerabilities in the locked packages? Without a network nobody knows, and that is no failure.

Exit code 1: there are some that .ci/audit-accepted.txt does not name.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
ACCEPTED = ROOT / ".ci" / "audit-accepted.txt"
LOCKED = ["--all-packages", "--all-extras", "--all-groups", "--no-emit-workspace", "--no-header", "--no-annotate"]


def main(work: Path) -> int:
    """Ask pip-audit; print what it knows."""
    work.mkdir(parents=True, exist_ok=True)
    locked, found = work / "audited.txt", work / "audit.json"
    found.unlink(missing_ok=True)
    export = ["uv", "export", "--locked", "--quiet", *LOCKED, "--no-hashes", "--output-file", str(locked)]
    subprocess.run(export, cwd=ROOT, check=True)
    command = ["uv", "tool", "run", "pip-audit", "--requirement", str(locked), "--no-deps", "--disable-pip"]
    command += ["--format", "json", "--output", str(found), "--progress-spinner", "off", "--timeout", "30"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
        report = json.loads(found.read_text(encoding="utf-8"))
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        last = done.stderr.strip().splitlines()[-1:] if "done" in locals() else [type(error).__name__]
        print(f"not audited: pip-audit or its database cannot be had ({' '.join(last)[:200]})")
        return 0
    accepted = {
        line.split()[0] for line in ACCEPTED.read_text(encoding="utf-8").splitlines() if line[:1] not in ("", "#")
    }
    return report_of(report, accepted)


def report_of(report: dict[str, list[dict[str, object]]], accepted: set[str]) -> int:
    """Print the vulnerabilities; 1 where one is new."""
    new = 0
    for package in report["dependencies"]:
        for known in package.get("vulns", []):  # type: ignore[attr-defined]
            names = {known["id"], *known["aliases"]}
            new += not names & accepted
            fixed = ", ".join(known["fix_versions"]) or "none yet"
            state = "accepted" if names & accepted else "NEW"
            print(f"{state}: {package['name']} {package['version']}: {known['id']}, fixed in {fixed}")
    skipped = sum("skip_reason" in package for package in report["dependencies"])
    if skipped == len(report["dependencies"]):
        print(f"not audited: the database has none of the {skipped} packages, so it is not the one it should be")
        return 0
    print(f"{len(report['dependencies'])} packages, {new} new vulnerabilities, {skipped} not in the database")
    return int(new > 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
