"""Who may call a service, and how its project is said: through the front and through the gateway of a real platform."""

import subprocess
import sys
import time
from pathlib import Path

import httpx2
import numpy as np
import pytest
import tritonclient.grpc as triton
from tests.acceptance.service.serving import ROWS, act, ask, ready, service, until
from tests.platform import Platform
from tritonclient.utils import InferenceServerException

from mlaas.client import ApiError, AsyncClient, Client

ANSWER = {"predictions": [0, 2]}


@pytest.fixture
def private(client: Client) -> str:
    """The V1 address of a private service `own`, beside a private `other`."""
    present = [each["meta"]["name"] for each in client.list("services")["items"]]
    for name in ("own", "other"):
        if name not in present:
            client.create("services", service(name, "one"))
    until(client, "other", ready)
    return str(until(client, "own", ready)["address"]["v1"])


def refused_after(url: str, token: str, seconds: float) -> float:
    """Seconds until the front refuses the token; fails after so many."""
    begin = time.monotonic()
    while ask(url, token)[0] == 200:
        assert time.monotonic() - begin < seconds
        time.sleep(0.01)
    return time.monotonic() - begin


def good_within(url: str, token: str, seconds: float = 5.0) -> None:
    begin = time.monotonic()
    while ask(url, token)[0] != 200:
        assert time.monotonic() - begin < seconds
        time.sleep(0.01)


def test_a_services_token_calls_it_alone_and_is_void_within_a_second(
    platform: Platform, client: Client, private: str
) -> None:
    made = client.create_service_token("own", ttl=600, token="app")
    secret = made["token"]
    good_within(private, secret)
    other = private.replace("own", "other")
    status, body = ask(other, secret)
    missing, text = ask(private.replace("own", "nobody"), secret)
    assert (status, missing) == (404, 404)
    assert body["error"].replace("other", "nobody") == text["error"]
    gateway = f"{platform.url}/api/v1/projects/default/services"
    assert ask(f"{gateway}/own/proxy/v1/models/own:predict", secret) == (200, ANSWER)
    assert ask(f"{gateway}/other/proxy/v1/models/other:predict", secret)[0] == 403
    listed = httpx2.get(f"{private.partition('/v1/')[0]}/v1/models", headers={"authorization": f"Bearer {secret}"})
    assert "own" in listed.json()["models"]
    assert "other" not in listed.json()["models"]
    act(platform, "DELETE", "projects/default/services/own/tokens/app")
    assert refused_after(private, secret, 5) < 1.0
    with pytest.raises(ApiError) as caught, Client(platform.url, secret) as theirs:
        theirs.ask("own", [[1, 2, 3, 4]])
    assert caught.value.status == 401


def test_the_command_line_makes_lists_and_voids_them(platform: Platform, client: Client, private: str) -> None:
    def run(*words: str) -> str:
        command = [sys.executable, "-m", "mlaas", "--url", platform.url, *words]
        environment = {**platform.environment, "MLAAS_TOKEN": platform.token}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    secret = run("token", "create", "--service", "own", "--ttl", "1h", "shell").strip()
    good_within(private, secret)
    lines = [line for line in run("token", "list").splitlines() if "service:default:own:shell" in line]
    assert len(lines) == 1
    assert "caller" in lines[0]
    run("token", "delete", "--service", "own", "shell")
    assert refused_after(private, secret, 5) < 1.0


async def test_clients_renew_their_token_before_it_ends(platform: Platform, client: Client, private: str) -> None:
    renewed, awaited, left = (client.create_service_token("own", ttl=3)["token"] for _ in range(3))
    async with AsyncClient(platform.url, awaited) as theirs:
        with Client(platform.url, renewed) as mine:
            assert mine.ask("own", [[5.1, 3.5, 1.4, 0.2]]) == [0]
            tensor = {"name": "x", "shape": [1, 4], "datatype": "FP64", "data": [5.1, 3.5, 1.4, 0.2]}
            assert (await theirs.infer("own", [tensor]))["outputs"][0]["data"] == [0]
            good_within(private, left)
            refused_after(private, left, 10)  # nobody renewed it: its time is over
            assert mine.ask("own", [[5.1, 3.5, 1.4, 0.2]]) == [0]
            assert (await theirs.ask("own", [[5.1, 3.5, 1.4, 0.2]])) == [0]
            assert ask(private, renewed) == (200, ANSWER)
    refused_after(private, renewed, 10)  # and with the client the renewals end


def test_a_token_ends_also_while_the_platform_is_away(platform: Platform, client: Client, private: str) -> None:
    secret = client.create_service_token("own", ttl=4)["token"]
    good_within(private, secret)
    platform.kill()
    try:
        assert ask(private, platform.token) == (200, ANSWER)
        refused_after(private, secret, 15)
        assert ask(private, platform.token) == (200, ANSWER)
    finally:
        platform.start()


def test_a_service_that_is_made_anew_knows_no_earlier_token(platform: Platform, client: Client) -> None:
    client.create("services", service("reborn", "one"))
    url = until(client, "reborn", ready)["address"]["v1"]
    secret = client.create_service_token("reborn", token="old")["token"]
    good_within(url, secret)
    client.delete("services", "reborn")
    end = time.monotonic() + 30
    while "reborn" in [each["meta"]["name"] for each in client.list("services")["items"]]:
        assert time.monotonic() < end
    client.create("services", service("reborn", "one"))
    until(client, "reborn", ready)
    good_within(url, platform.token)
    assert ask(url, secret)[0] == 404


def test_access_private_and_public_change_at_once(client: Client) -> None:
    client.create("services", service("door", "one"))
    url = until(client, "door", ready)["address"]["v1"]
    assert ask(url)[0] == 404
    client.patch("services", "door", {"spec": {"access": "public"}})
    good_within(url, "")
    client.patch("services", "door", {"spec": {"access": "private"}})
    refused_after(url, "", 5)


@pytest.fixture(scope="module")
def base(platform: Platform) -> str:
    with platform.client() as api:
        api.create("projects", {"kind": "project", "meta": {"name": "physics"}, "spec": {}})
        api.create("services", service("twin", "one"))
        api.create("services", service("twin", "two"), project="physics")
        until(api, "twin", ready)
        with platform.client(project="physics") as theirs:
            until(theirs, "twin", ready)
    return f"http://127.0.0.1:{platform.inference_port}"


def _taken(server: triton.InferenceServerClient, tensor: triton.InferInput, headers: dict[str, str]) -> bool:
    """Whether 'twin' answers who has these headers; to all others there is no such model."""
    try:
        server.infer("twin", [tensor], headers=headers)
    except InferenceServerException as error:
        if "unknown model 'twin'" not in str(error):
            raise
        return False
    return True


class TestAddressing:
    """Two projects have a service of one name, with models that tell themselves apart."""

    @pytest.mark.parametrize(
        ("prefix", "headers", "first"),
        [
            ("", {}, 0),
            ("/projects/physics", {}, 10),
            ("/projects/default", {"mlaas_project": "physics"}, 0),  # the path is before the header
            ("", {"mlaas_project": "physics"}, 10),
            (
                "",
                {"mlaas_project": "default", "host": "twin.physics.serve.example.org"},
                0,
            ),  # the header before the host
            ("", {"host": "twin.physics.serve.example.org:8000"}, 10),
            ("", {"host": "twin.physics.another.org"}, 0),  # somebody else's domain says nothing
        ],
    )
    def test_the_project_is_said_in_this_order(
        self, platform: Platform, base: str, prefix: str, headers: dict[str, str], first: int
    ) -> None:
        status, body = ask(f"{base}{prefix}/v1/models/twin:predict", platform.token, **headers)
        assert (status, body["predictions"][0]) == (200, first)

    def test_the_tokens_only_project_comes_before_the_default_one(self, platform: Platform, base: str) -> None:
        made = act(platform, "POST", "tokens", {"name": "only", "role": "viewer", "projects": ["physics"]})["token"]
        url = f"{base}/v1/models/twin:predict"
        good_within(url, made)
        assert ask(url, made)[1]["predictions"][0] == 10
        assert ask(url, made, host="twin.default.serve.example.org")[0] == 404  # the host is before the token
        callers = act(platform, "POST", "projects/physics/services/twin/tokens", {})["token"]
        good_within(url, callers)
        assert ask(url, callers)[1]["predictions"][0] == 10

    def test_loading_and_unloading_name_the_service_to_change(self, platform: Platform, base: str) -> None:
        for verb in ("load", "unload"):
            status, body = ask(f"{base}/v2/repository/models/twin/{verb}", platform.token, {})
            assert status == 403
            assert "change the service 'twin'" in body["error"]
            assert ask(f"{base}/v2/repository/models/nobody/{verb}", platform.token, {})[0] == 404

    def test_grpc_says_the_same(self, platform: Platform, base: str, client: Client) -> None:
        rows = np.array(ROWS["instances"], np.float64)
        tensor = triton.InferInput("input-0", list(rows.shape), "FP64")
        tensor.set_data_from_numpy(rows)
        made = act(platform, "POST", "tokens", {"name": "wire", "role": "viewer", "projects": ["physics"]})["token"]
        good_within(f"{base}/v1/models/twin:predict", made)
        with triton.InferenceServerClient(str(client.get("services", "twin")["status"]["address"]["grpc"])) as server:
            mine, all_of_them = {"authorization": f"Bearer {made}"}, {"authorization": f"Bearer {platform.token}"}
            for headers, first in (
                (mine, 10),
                (all_of_them, 0),
                (all_of_them | {"mlaas-project": "physics"}, 10),
            ):
                answer = server.infer("twin", [tensor], headers=headers).as_numpy("predict")
                assert answer is not None
                assert answer[0] == first
            listed = server.get_model_repository_index(headers=mine, as_json=True)["models"]
            assert [each["name"] for each in listed] == ["twin"]
            for change in (server.load_model, server.unload_model):
                with pytest.raises(InferenceServerException, match="change the service 'twin'") as caught:
                    change("twin", headers=mine)
                assert caught.value.status() == "StatusCode.PERMISSION_DENIED"
            act(platform, "DELETE", "tokens/wire")
            begin = time.monotonic()
            named = mine | {"mlaas-project": "physics"}
            while _taken(server, tensor, named):  # on the connection that is open
                assert time.monotonic() - begin < 1.0


def test_the_ports_answer_before_there_is_a_service_and_go_on_over_a_restart(tmp_path: Path) -> None:
    platform = Platform(tmp_path, MLAAS_WARM="0")
    base = f"http://127.0.0.1:{platform.inference_port}"
    with platform:
        end = time.monotonic() + 60
        while True:
            try:
                if httpx2.get(f"{base}/v2/health/ready").status_code == 200:
                    break
            except httpx2.TransportError:
                pass
            assert time.monotonic() < end
            time.sleep(0.05)
        assert httpx2.get(f"{base}/").json() == {"status": "alive"}
        assert httpx2.get(f"{base}/v2/health/live").json() == {"live": True}
        assert httpx2.get(f"{base}/v1/models").json()["models"] == []
        with platform.client() as api:
            before = api.get("workloads", "model-server", project="system")
        platform.stop()
        assert httpx2.get(f"{base}/v2/health/ready").status_code == 200
        platform.start()
        with platform.client() as api:
            after = api.get("workloads", "model-server", project="system")
        assert after["meta"]["uid"] == before["meta"]["uid"]
        assert httpx2.get(f"{base}/v2/health/ready").status_code == 200
