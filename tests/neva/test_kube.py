"""The Kubernetes API's answers that are none."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pytest_httpserver import HTTPServer
from typer.testing import CliRunner

from controller.cli import app
from neva.kube import ApiError, ClientTransport
from neva.reasons import Reason


@pytest.fixture
def kubeconfig(
    httpserver: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> HTTPServer:
    """A cluster that is anything but one."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": httpserver.url_for("/").rstrip("/")}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(path))
    return httpserver


def test_a_proxys_login_page_is_one_line_with_the_way_out(kubeconfig: HTTPServer) -> None:
    page = "<html><form>Log in</form></html>"
    kubeconfig.expect_request("/version").respond_with_data(page, content_type="text/html")
    with pytest.raises(ApiError, match="GET /version: the answer is no JSON object, but text/html"):
        ClientTransport.of_user()("GET", "/version", None, None)


@pytest.mark.parametrize("text", ["[]", '"ok"', "null"])
def test_json_that_is_no_object_is_refused_too(kubeconfig: HTTPServer, text: str) -> None:
    kubeconfig.expect_request("/version").respond_with_data(text, content_type="application/json")
    with pytest.raises(ApiError, match="no JSON object"):
        ClientTransport.of_user()("GET", "/version", None, None)


def test_a_command_tells_it_as_any_other_error(kubeconfig: HTTPServer) -> None:
    kubeconfig.expect_request("/apis/neva-batch.dev/v1alpha1/videonevajobs").respond_with_data("hm")
    done = CliRunner().invoke(app, ["status", "-A"])
    assert done.exit_code == 1
    [line] = done.stderr.splitlines()
    assert line.startswith(f"error ({Reason.CLUSTER_UNAVAILABLE}): GET /apis/")
    assert line.endswith("Correct `server` in the kubeconfig, or log in")
