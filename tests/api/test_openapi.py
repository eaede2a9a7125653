"""The demo, sent whatever its OpenAPI description allows and forbids, by schemathesis."""

import json
import subprocess
import sys
from pathlib import Path

from tests.support.api_schema import DESCRIPTION, ROOT, operations
from tests.support.exporter_process import running_demo

EXCLUDED = (
    "/stream"  # a response lasts ten minutes; tests/web/test_page_handlers.py checks its events
)


def test_demo_answers_every_request_as_described(tmp_path: Path) -> None:
    description = tmp_path / "openapi.json"
    description.write_text(json.dumps(DESCRIPTION), encoding="utf-8")
    with running_demo() as demo:
        assert demo.get().status_code == 200  # so that batteries have readings, and one a failure

        done = subprocess.run(
            [
                Path(sys.executable).with_name("schemathesis"),
                "run",
                description,
                f"--url=http://127.0.0.1:{demo.port}{ROOT}",
                f"--exclude-path={EXCLUDED}",
                "--phases=examples,coverage,fuzzing",
                "--mode=all",
                "--max-examples=10",
                "--seed=1",
                "--generation-database=none",
                "--no-color",
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    assert done.returncode == 0, done.stdout + done.stderr
    count = len(list(operations()))
    assert f"{count - 1} selected / {count} total" in done.stdout
