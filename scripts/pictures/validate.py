"""Check dashboards against Grafana's own schema: validate.py SCHEMA DASHBOARD..."""

import json
import sys
from pathlib import Path

from jsonschema import Draft7Validator

validator = Draft7Validator(json.loads(Path(sys.argv[1]).read_text()))
wrong = 0
for name in sys.argv[2:]:
    for error in validator.iter_errors(json.loads(Path(name).read_text())):
        where = "/".join(str(part) for part in error.absolute_path)
        print(f"{Path(name).name}: {where}: {error.message[:300]}", file=sys.stderr)
        wrong = 1
sys.exit(wrong)
