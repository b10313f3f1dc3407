"""Adds up JUnit files of ctest and pytest: prints "N passed, N failed[, N skipped]"; exit code 1 unless all is well.

  add_up_tests.py RESULT.xml...
"""
import sys
import xml.etree.ElementTree as xml


def outcome(case):
    """passed, failed or skipped, of one <testcase>."""
    status, skipped = case.get("status"), case.find("skipped")
    if case.find("failure") is not None or case.find("error") is not None or status == "fail":
        return "failed"
    if status == "notrun" and (skipped is None or not skipped.get("message", "").startswith("SKIP_")):
        return "failed"  # ctest could not start it: its program is not built
    return "skipped" if skipped is not None or status == "disabled" else "passed"


def main(paths):
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for path in paths:
        for case in xml.parse(path).iter("testcase"):
            counts[outcome(case)] += 1
    skipped = f", {counts['skipped']} skipped" if counts["skipped"] else ""
    print(f"{counts['passed']} passed, {counts['failed']} failed{skipped}")
    return 1 if counts["failed"] or not counts["passed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
