"""Builds behind a company's proxy, with its authorities and its registry: the fetch goes that way too."""

from pathlib import Path

import pytest

from builder import variables
from builder.job import Job, Limits, Settings, UploadSource
from scalemesh.config import Builds
from scalemesh.errors import RefusedError
from scalemesh.services.build_environment import MAX_BUNDLE_BYTES, REGISTRIES, operator_env, read_bundle
from tests.rigs.company_proxy import company_proxy
from tests.rigs.tls import certificate, serving
from tests.unit.builder_daemon import build, daemon
from tests.unit.builder_git import bare, commit, git_server, work_tree

ENV = {"build_command": "mkdir o; env > o/env.txt", "output_directory": "o"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tree = work_tree(tmp_path / "tree")
    commit(tree, {"index.html": "hello"})
    (tmp_path / "root").mkdir()
    bare(tree, tmp_path / "root" / "site.git")
    return tmp_path / "root"


def git_source(url: str) -> dict[str, object]:
    nothing = dict.fromkeys(("branch", "commit", "credentials", "file_root"))
    return {"kind": "git", "url": url, "allow": ["http", "https"], **nothing}


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def variables_of(text: bytes) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.decode().splitlines() if "=" in line)


@pytest.mark.parametrize("spelling", ["HTTP_PROXY", "http_proxy"])
async def test_a_repository_that_only_the_proxy_knows_is_cloned_and_commands_see_the_proxy_too(
    root: Path, tmp_path: Path, spelling: str
) -> None:
    with git_server(root) as address, company_proxy({"git.company.test:80": port_of(address)}) as proxy:
        env = operator_env(Builds(env={spelling: proxy.url}))
        source = git_source("http://git.company.test/site.git")
        async with daemon(tmp_path, source, settings=ENV, operator_env=env) as fake:
            assert await build(fake, tmp_path / "w") == 0, fake.text
            seen = variables_of(fake.files()["env.txt"])
    assert any("http://git.company.test/site.git/info/refs" in line for line in proxy.asked)
    for name in ("HTTP_PROXY", "http_proxy", "YARN_HTTP_PROXY"):
        assert seen[name] == proxy.url


async def test_without_the_variables_that_repository_is_not_found(root: Path, tmp_path: Path) -> None:
    async with daemon(tmp_path, git_source("http://git.company.test/site.git")) as fake:
        assert await build(fake, tmp_path / "w") == 1
    assert fake.finished is not None
    assert fake.finished["reason"] == "clone_failed"


async def test_https_goes_by_connect_and_is_proven_by_the_companys_authority(root: Path, tmp_path: Path) -> None:
    pem = certificate(tmp_path, "git.company.test")
    source = git_source("https://git.company.test/site.git")
    with (
        git_server(root, tls=serving(pem)) as address,
        company_proxy({"git.company.test:443": port_of(address)}) as proxy,
    ):
        by_proxy = operator_env(Builds(env={"HTTPS_PROXY": proxy.url}))
        async with daemon(tmp_path, source, settings=ENV, operator_env=by_proxy) as fake:
            assert await build(fake, tmp_path / "untrusting") == 1
            assert fake.finished is not None
            assert "certificate" in fake.finished["message"]
        trusting = operator_env(Builds(env={"HTTPS_PROXY": proxy.url, "GIT_SSL_CAINFO": str(pem)}))
        async with daemon(tmp_path, source, settings=ENV, operator_env=trusting) as fake:
            assert await build(fake, tmp_path / "trusting") == 0, fake.text
    assert "CONNECT git.company.test:443 HTTP/1.1" in proxy.asked


def test_a_registry_is_told_to_every_package_manager() -> None:
    env = operator_env(Builds(npm_registry="https://packages.company.test/npm/"))
    assert env == dict.fromkeys(REGISTRIES, "https://packages.company.test/npm/")


def test_a_registry_without_tls_is_allowed_to_yarn() -> None:
    env = operator_env(Builds(npm_registry="http://packages.company.test:4873/"))
    assert env["YARN_UNSAFE_HTTP_WHITELIST"] == "packages.company.test"


def test_what_the_operator_sets_by_hand_outweighs_what_is_derived() -> None:
    env = operator_env(
        Builds(
            npm_registry="https://a.test/",
            env={"npm_config_registry": "https://b.test/", "HTTPS_PROXY": "http://p:1", "https_proxy": "http://q:1"},
        )
    )
    assert (env["npm_config_registry"], env["BUN_CONFIG_REGISTRY"]) == ("https://b.test/", "https://a.test/")
    assert (env["HTTPS_PROXY"], env["https_proxy"]) == ("http://p:1", "http://q:1")


def test_where_a_build_has_the_daemons_proxy_no_other_is_named_to_it() -> None:
    operator = {"HTTPS_PROXY": "http://company.test:3128", "PATH": "/elsewhere", "REGION": "eu"}
    base = variables.machine({"PATH": "/bin"}, operator, {"HTTPS_PROXY": "http://127.0.0.1:1"})
    job = Job(
        source=UploadSource(files=()),
        settings=Settings(),
        env={"REGION": "us"},
        public_env={},
        limits=Limits(time_s=1, disk_bytes=1, pids=1, output_bytes=1, output_files=1, log_bytes=1),
        operator_env=operator,
    )
    env, refused = variables.for_commands(job, None, base, {}, "/work/home")
    assert (env["HTTPS_PROXY"], env["PATH"], env["REGION"], refused) == ("http://127.0.0.1:1", "/bin", "us", [])


def test_a_bundle_is_read_anew_each_time_and_none_means_the_systems(tmp_path: Path) -> None:
    pem = certificate(tmp_path, "a.test")
    first = read_bundle(str(pem))
    assert first == pem.read_text()
    assert read_bundle(str(certificate(tmp_path, "b.test"))) != first
    assert read_bundle("") is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"no certificate", "holds no certificate"),
        (b"-----BEGIN CERTIFICATE-----" + b"x" * MAX_BUNDLE_BYTES, "more than"),
    ],
)
def test_a_bundle_that_is_none_is_refused_with_words(tmp_path: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_bytes(content)
    with pytest.raises(RefusedError, match=words):
        read_bundle(str(tmp_path / "ca.pem"))
