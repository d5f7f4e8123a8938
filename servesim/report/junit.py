"""What a check found as JUnit XML, which every CI system shows: one suite a scenario, one case a metric or limit."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from servesim.check.judge import INCONCLUSIVE, REGRESSION
from servesim.check.report import Checked, Report
from servesim.report.check import regression_words, sentences
from servesim.report.compare import metric_value

# What XML 1.0 cannot hold, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(report: Report) -> str:
    """Return the document. Inconclusive metrics are skipped cases, since they neither passed nor failed."""
    root = ElementTree.Element("testsuites", name="servesim check")
    for one in report.scenarios:
        root.append(_suite(one, report))
    for key in ("tests", "failures", "skipped"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in root)))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _suite(one: Checked, report: Report) -> ElementTree.Element:
    suite = ElementTree.Element("testsuite", name=_clean(one.key), time=f"{one.cpu_s:.3f}")
    why = "\n".join(line for line in sentences(one, report) if not line.startswith("REGRESSION"))
    if one.identical:
        _case(suite, one, "no change at all")
    for verdict in [] if one.identical else one.verdicts:
        case = _case(suite, one, verdict.metric)
        if verdict.status == REGRESSION:
            _outcome(case, "failure", regression_words(verdict, report.level), why)
        elif verdict.status == INCONCLUSIVE:
            _outcome(case, "skipped", f"inconclusive: {verdict.note}")
    for kept in one.assertions:
        case = _case(suite, one, kept.limit)
        if not kept.kept:
            _outcome(case, "failure", f"{kept.limit}: the mean is {metric_value(kept.metric, kept.value)}")
    case = _case(suite, one, "not overloaded")
    if one.newly_overloaded:
        _outcome(case, "failure", "overloaded, which it was not")
    suite.set("tests", str(len(suite)))
    for key, tag in (("failures", "failure"), ("skipped", "skipped")):
        suite.set(key, str(len(suite.findall(f"*/{tag}"))))
    return suite


def _case(suite: ElementTree.Element, one: Checked, name: str) -> ElementTree.Element:
    return ElementTree.SubElement(suite, "testcase", classname=_clean(one.key), name=_clean(name))


def _outcome(case: ElementTree.Element, tag: str, message: str, text: str = "") -> None:
    ElementTree.SubElement(case, tag, message=_clean(message)).text = _clean(text) or None


def _clean(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
