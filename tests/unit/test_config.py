"""The config file: every mistake at once, paths from its folder, plug-ins by kind."""

from pathlib import Path

import pytest

from scalemesh import registry
from scalemesh.config import Config, ExecutorLimits, Hosts, Plugin, load
from scalemesh.errors import ConfigError


def written(folder: Path, text: str) -> Path:
    path = folder / "scalemesh.toml"
    path.write_text(text)
    return path


def test_the_shipped_file_is_the_default_config() -> None:
    shipped = load(Path(__file__).parents[2] / "config" / "scalemesh.toml")
    defaults = Config()
    assert (shipped.builds, shipped.serving, shipped.accounts) == (defaults.builds, defaults.serving, defaults.accounts)
    assert (shipped.listen, shipped.hosts, shipped.git) == (defaults.listen, defaults.hosts, defaults.git)
    assert shipped.proxy == defaults.proxy


def test_relative_paths_count_from_the_files_folder(tmp_path: Path) -> None:
    config = load(written(tmp_path, 'data_dir = "d"\n[git]\nallow = ["https", "file"]\nfile_root = "g"\n'))
    assert config.data_dir == tmp_path / "d"
    assert config.git.file_root == tmp_path / "g"
    config = load(written(tmp_path, '[proxy]\nca_bundle = "own.pem"\n'))
    assert config.proxy.ca_bundle == tmp_path / "own.pem"


def test_every_mistake_is_named_at_once(tmp_path: Path) -> None:
    text = (
        'dta_dir = "x"\n[listen]\nport = "80"\n[builds]\nparallel = 0\n[git]\nallow = ["file"]\n[executor]\nsize = 1\n'
    )
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, text))
    words = caught.value.what
    assert "4 wrong settings" in words
    assert 'dta_dir: unknown name; did you mean "data_dir"?' in words
    assert "listen.port = '80': must be an integer" in words
    assert "builds: parallel = 0: must be 1 to" in words
    assert "git: allow: file needs file_root" in words


def test_a_plug_in_without_a_kind_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"executor\.kind: missing"):
        load(written(tmp_path, "[executor]\n"))


def test_a_setting_beside_the_kinds_table_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"store\.path: unknown setting"):
        load(written(tmp_path, '[store]\nkind = "disk"\npath = "x"\n'))


def test_executors_may_be_several_and_each_has_its_own_table_and_limits(tmp_path: Path) -> None:
    text = (
        "[builds.per_executor.docker]\nparallel = 5\n"
        '[executor]\nkind = ["local", "docker"]\n[executor.docker]\nimage = "x"\n'
    )
    config = load(written(tmp_path, text))
    assert config.kinds("executor") == ("local", "docker")
    assert config.plugin("executor") == Plugin("local")
    assert config.plugin("executor", "docker") == Plugin("docker", {"image": "x"})
    assert config.builds.per_executor == {"docker": ExecutorLimits(parallel=5)}


def test_one_executor_is_named_without_a_list_as_ever(tmp_path: Path) -> None:
    assert load(written(tmp_path, '[executor]\nkind = "docker"\n')).kinds("executor") == ("docker",)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[executor]\nkind = []\n", "executor.kind = []: must name at least one plug-in"),
        ('[executor]\nkind = ["local", "local"]\n', "executor.kind[1] = 'local': must be named once"),
        ('[executor]\nkind = ["local", 7]\n', "executor.kind[1] = 7: must be a plug-in's name"),
        ("[executor]\nkind = 7\n", "executor.kind = 7: must be a plug-in's name, or a list of such names"),
        ('[store]\nkind = ["disk"]\n', "store.kind = ['disk']: must be a plug-in's name"),
        ("[builds.per_executor]\ndocker = 7\n", "builds.per_executor.docker = 7: must be a table"),
        ("[builds.per_executor.local]\nparalel = 7\n", "builds.per_executor.local.paralel: unknown name"),
        ("[builds.per_executor.local]\nparallel = 0\n", "builds.per_executor.local: parallel = 0: must be 1 to"),
        (
            "[builds.per_executor.local]\ntotal_memory_mib = 0\n",
            "builds.per_executor.local: total_memory_mib = 0: must be 1 to",
        ),
    ],
)
def test_a_mistake_about_executors_is_named(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, text))
    assert told in caught.value.what


def test_limits_of_executors_that_are_not_listed_are_all_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, "[builds.per_executor.dokcer]\n[builds.per_executor.ecs]\n"))
    for kind in ("dokcer", "ecs"):
        assert f"builds.per_executor.{kind}: executor.kind does not list it; it lists local" in caught.value.what
    assert "2 wrong settings" in caught.value.what


def test_a_missing_file_says_which(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read"):
        load(tmp_path / "none.toml")


def test_broken_toml_says_where(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="line 1"):
        load(written(tmp_path, "a = = b"))


async def test_an_unknown_kind_names_the_installed_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        registry.open_plugin("executor", Plugin("lcoal"), tmp_path)
    assert "lcoal" in caught.value.what
    assert "local" in caught.value.why
    assert caught.value.fix == 'did you mean "local"?'


async def test_a_plug_ins_own_mistakes_carry_their_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"store\.disk\.pth: unknown name"):
        registry.open_plugin("store", Plugin("disk", {"pth": "x"}), tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "[builds]\nreserve_mib = -1\n",
        "[builds]\ntotal_memory_mib = -1\n",
        '[builds]\npublic_url = "nonsense"\n',
        '[hosts]\npublic_url = "nonsense"\n',
        "[builds]\ncpu_weight = 0\n",
        "[listen]\nport = 70000\n",
        "[proxy]\nconnect_timeout_s = 0\n",
        "[proxy]\nanswer_mib = 0\n",
        "[proxy]\nwebsocket_message_mib = 2000\n",
        "[proxy]\nhops = 0\n",
        '[proxy]\nallow_networks = ["10.0.0.1/8"]\n',
        '[proxy]\nallow_networks = ["example.com"]\n',
    ],
)
def test_a_value_out_of_its_bounds_is_a_mistake(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="must be"):
        load(written(tmp_path, text))


@pytest.mark.parametrize("url", ["http://", "https://[", "http://x:99999", "http://x:y", "ftp://x", "example.com"])
def test_a_public_url_that_is_none_is_told_before_anything_starts(url: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        Hosts(public_url=url)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x", 'must be an address or a network, like "10.0.0.5" or "10.0.0.0/8"'),
        ("", "must be an address or a network"),
        ("unix", "must be an address or a network"),
        ("proxy.example", "must be an address or a network"),
        ("10.1.2.3/8", "must be an address or a network, like 10.0.0.0/8"),
        ("127.0.0.1:80", "must be an address or a network"),
        ("0.0.0.0/0", "must leave somebody out"),
        ("::/0", "must leave somebody out"),
        ("::ffff:10.0.0.1", "must be written as IPv4, like 10.0.0.1"),
    ],
)
def test_a_trusted_proxy_that_is_none_is_told_by_its_place(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, f'[hosts]\ntrusted_proxies = ["127.0.0.1", "{text}"]\n'))
    assert f"hosts: trusted_proxies[1] = '{text}': {told}" in caught.value.what


def test_addresses_and_networks_are_trusted_proxies(tmp_path: Path) -> None:
    entries = ("127.0.0.1", "::1", "10.0.0.0/8", "2001:db8::/32", "192.0.2.0/255.255.255.0")
    wanted = ", ".join(f'"{entry}"' for entry in entries)
    assert load(written(tmp_path, f"[hosts]\ntrusted_proxies = [{wanted}]\n")).hosts.trusted_proxies == entries


def test_an_empty_kind_is_no_plug_in_and_not_the_default_one() -> None:
    """A move of all blobs to "" must not open the store that they are in."""
    with pytest.raises(ConfigError, match=r'store\.kind = ""'):
        registry.open_point("store", Config(), kind="")
