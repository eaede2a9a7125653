"""Every PromQL expression of the dashboards, the rules and docs/metrics.md."""

import json
from collections.abc import Iterator

import dashboards
import yaml
from metrics_questions import QUESTIONS

from tests.support.paths import PROJECT

RULE_FILES = sorted((PROJECT / "prometheus" / "rules").glob("*.yml"))
VARIABLES = {
    "$__rate_interval": "5m",
    "$__interval": "1m",
    "$__range": "1d",
    "${__to}": "1000000",
    "${__interval_ms}": "1000",
    "$job": ".+",
    "$instance": ".+",
    "$vehicle": ".*",
    "$battery": ".+",
}


def expressions() -> Iterator[tuple[str, str]]:
    """Yield every PromQL expression with the place where it stands."""
    for name in dashboards.DASHBOARDS:
        for panel in json.loads(dashboards.text(name))["panels"]:
            for target in panel.get("targets", []):
                expr = target["expr"]
                for variable, value in VARIABLES.items():
                    expr = expr.replace(variable, value)
                yield f"{name}: {panel['title']} {target['refId']}", expr
    for path in RULE_FILES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                yield f"{path.name}: {rule.get('alert') or rule['record']}", rule["expr"]
    for question in QUESTIONS:
        yield f"metrics.md: {question.title}", question.query


EXPRESSIONS = dict(expressions())
